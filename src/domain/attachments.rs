//! Disks and file systems that the container was given.

use super::tree::Element;
use super::{DEVICE_ERROR_POLICY, FILE_ERROR_POLICY};
use crate::plan::attachments::{Attachments, Disk, DiskSource, SharedFile};

/// Index of the first of these disks: the guest's own disk and the seed disk come before.
const FIRST: usize = 2;
/// Virtqueue size of virtiofs: the value in libvirt's documentation.
const QUEUE: &str = "1024";

/// The disks, in their order.
pub(super) fn disks(attachments: &Attachments) -> impl Iterator<Item = Element> {
    attachments.disks.iter().enumerate().map(|(n, disk)| one_disk(&name(FIRST + n), disk))
}

fn one_disk(name: &str, disk: &Disk) -> Element {
    let mut driver = vec![("name", "qemu"), ("type", disk.format.name()), ("discard", "unmap")];
    let (kind, source) = match disk.source {
        DiskSource::File(_) => {
            driver.extend(FILE_ERROR_POLICY);
            ("file", super::open_file(&disk.path()))
        }
        DiskSource::Mounted(..) | DiskSource::Device(..) => {
            driver.extend(DEVICE_ERROR_POLICY);
            // The host's page cache would only duplicate the guest's.
            driver.push(("cache", "none"));
            ("block", Element::new("source", &[("dev", &disk.path())]))
        }
    };
    Element::new("disk", &[("type", kind), ("device", "disk")])
        .with([
            Element::new("driver", &driver),
            source,
            Element::new("backingStore", &[]),
            Element::new("target", &[("dev", name), ("bus", "virtio")]),
        ])
        .with(disk.read_only.then(|| Element::new("readonly", &[])))
        .with([Element::text("serial", disk.serial())])
}

/// The virtiofs file systems: one for each share, and one for all shared files.
pub(super) fn file_systems(attachments: &Attachments) -> impl Iterator<Item = Element> {
    let shares = attachments.shares.iter().map(|share| file_system(&share.socket(), &share.tag()));
    let files = (!attachments.files.is_empty()).then(|| file_system(&SharedFile::socket(), SharedFile::TAG));
    shares.chain(files)
}

fn file_system(socket: &str, tag: &str) -> Element {
    Element::new("filesystem", &[("type", "mount")]).with([
        Element::new("driver", &[("type", "virtiofs"), ("queue", QUEUE)]),
        Element::new("source", &[("socket", socket)]),
        Element::new("target", &[("dir", tag)]),
    ])
}

/// Name of the virtio disk at this index: `vda`, `vdb`, …, `vdz`, `vdaa`, ….
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
