//! What the guest boots from.

use super::ImageFacts;
use crate::error::{Error, Result};
use crate::host::image::Format;
use crate::request::Request;

/// What the guest boots from. Each step that depends on the kind (planning, making files, edits, the domain) matches on
/// this once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootSource {
    /// A disk image.
    Disk(BootDisk),
}

/// What takes the guest's writes to its boot disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDisk {
    /// An overlay that belongs to the container.
    Overlay {
        /// Format of the image below the overlay.
        image: Format,
        /// Requested size in bytes; `None`: the image's.
        size: Option<u64>,
    },
    /// The image itself, in this format.
    Image(Format),
}

/// Chooses what takes the writes.
pub(super) fn disk(request: &Request, image: ImageFacts) -> Result<BootDisk> {
    if request.options.persistent {
        return persistent(request, image);
    }
    match request.options.disk_size {
        Some(size) if size < image.virtual_size => {
            let why = format!("{size} bytes are less than the image's {}", image.virtual_size);
            Err(Error::new("--disk-size", why).hint("a disk can only grow"))
        }
        size => Ok(BootDisk::Overlay { image: image.format, size }),
    }
}

fn persistent(request: &Request, image: ImageFacts) -> Result<BootDisk> {
    let refuse = |why: &str, hint: &str| Err(Error::new("--persistent", why).hint(hint));
    if image.root_is_ephemeral {
        return refuse(
            "what is written to this root ends with the container",
            "put the image into a directory and give that by --rootfs DIR",
        );
    }
    if request.root_readonly {
        return refuse("the container is read-only", "leave --read-only out");
    }
    if image.format == Format::Raw && request.options.format.is_none() {
        let why = "a guest can write a header of another format to a raw image";
        return refuse(why, "pass --format raw at every start");
    }
    Ok(BootDisk::Image(image.format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{BIOS_IMAGE, request};

    fn decide(change: impl Fn(&mut Request, &mut ImageFacts)) -> std::result::Result<BootDisk, String> {
        let (mut request, mut image) = (request(), BIOS_IMAGE);
        change(&mut request, &mut image);
        disk(&request, image).map_err(|e| e.to_string())
    }

    #[test]
    fn an_overlay_is_no_smaller_than_the_image() {
        let overlay = |size| Ok(BootDisk::Overlay { image: Format::Qcow2, size });
        for (size, want) in [
            (None, overlay(None)),
            (Some(1 << 30), overlay(Some(1 << 30))),
            (Some(5 << 30), overlay(Some(5 << 30))),
            (
                Some(512),
                Err("--disk-size: 512 bytes are less than the image's 1073741824 (a disk can only grow)".into()),
            ),
        ] {
            assert_eq!(decide(|r, _| r.options.disk_size = size), want);
        }
    }

    #[test]
    fn the_image_itself_where_it_is_the_users_own() {
        let asked = |r: &mut Request| r.options.persistent = true;
        assert_eq!(decide(|r, _| asked(r)), Ok(BootDisk::Image(Format::Qcow2)));
        let raw = |r: &mut Request, i: &mut ImageFacts| (i.format, r.options.persistent) = (Format::Raw, true);
        let declared = decide(|r, i| {
            raw(r, i);
            r.options.format = Some(Format::Raw);
        });
        assert_eq!(declared, Ok(BootDisk::Image(Format::Raw)));
        let begins = |got: std::result::Result<BootDisk, String>, want: &str| {
            let message = got.unwrap_err();
            assert!(message.starts_with(&format!("--persistent: {want} (")), "{message}");
        };
        begins(decide(raw), "a guest can write a header of another format to a raw image");
        begins(
            decide(|r, i| {
                asked(r);
                i.root_is_ephemeral = true;
            }),
            "what is written to this root ends with the container",
        );
        begins(
            decide(|r, _| {
                asked(r);
                r.root_readonly = true;
            }),
            "the container is read-only",
        );
    }
}
