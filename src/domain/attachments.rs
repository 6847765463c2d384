//! Disks and file systems that the container was given.

use std::io;

use super::xml::Xml;
use super::{ON_ERROR_OF_DEVICES, ON_ERROR_OF_FILES};
use crate::plan::attachments::{Attachments, Disk, DiskSource, SharedFile};

/// The guest's own disk and the seed are the first two.
const FIRST: usize = 2;
/// Requests under way at once: what libvirt's documentation suggests.
const QUEUE: &str = "1024";

/// The disks, in their order.
pub(super) fn disks(xml: &mut Xml, attachments: &Attachments) -> io::Result<()> {
    attachments.disks.iter().enumerate().try_for_each(|(n, disk)| one_disk(xml, &name(FIRST + n), disk))
}

fn one_disk(xml: &mut Xml, name: &str, disk: &Disk) -> io::Result<()> {
    let kind = match disk.source {
        DiskSource::File(_) => "file",
        DiskSource::Mounted(..) | DiskSource::Device(..) => "block",
    };
    xml.parent("disk", &[("type", kind), ("device", "disk")], |xml| {
        let mut driver = vec![("name", "qemu"), ("type", disk.format.name()), ("discard", "unmap")];
        driver.extend(if kind == "file" { ON_ERROR_OF_FILES } else { ON_ERROR_OF_DEVICES });
        if kind == "block" {
            // The host's cache would only hold twice what the guest has in its own.
            driver.push(("cache", "none"));
        }
        xml.empty("driver", &driver)?;
        match disk.source {
            DiskSource::File(_) => super::open_file(xml, &disk.path())?,
            _ => xml.empty("source", &[("dev", &disk.path())])?,
        }
        xml.empty("backingStore", &[])?;
        xml.empty("target", &[("dev", name), ("bus", "virtio")])?;
        if disk.read_only {
            xml.empty("readonly", &[])?;
        }
        xml.text("serial", &[], &disk.serial())
    })
}

/// Every virtiofs.
pub(super) fn file_systems(xml: &mut Xml, attachments: &Attachments) -> io::Result<()> {
    for share in &attachments.shares {
        file_system(xml, &share.socket(), &share.tag())?;
    }
    if attachments.files.is_empty() { Ok(()) } else { file_system(xml, &SharedFile::socket(), SharedFile::TAG) }
}

fn file_system(xml: &mut Xml, socket: &str, tag: &str) -> io::Result<()> {
    xml.parent("filesystem", &[("type", "mount")], |xml| {
        xml.empty("driver", &[("type", "virtiofs"), ("queue", QUEUE)])?;
        xml.empty("source", &[("socket", socket)])?;
        xml.empty("target", &[("dir", tag)])
    })
}

/// The name of the virtio disk of this index: `vda`, `vdb`, …, `vdz`, `vdaa`, ….
pub fn name(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (index % 26) as u8));
        match index / 26 {
            0 => break,
            more => index = more - 1,
        }
    }
    letters.push('d');
    letters.push('v');
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_on_after_z() {
        for (index, want) in
            [(0, "vda"), (25, "vdz"), (26, "vdaa"), (51, "vdaz"), (52, "vdba"), (701, "vdzz"), (702, "vdaaa")]
        {
            assert_eq!(name(index), want);
        }
    }
}
