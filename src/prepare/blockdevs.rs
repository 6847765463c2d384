//! The images of `--blockdev`: as hostile as the VM's own.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::Mount;

use crate::error::{Context, Error, Result};
use crate::handoff::supervisor_config::Judged;
use crate::host::image::{self, locks};
use crate::plan::attachments::{Attachments, Disk, DiskSource};
use crate::request::Request;

/// Judges each. `first` says that the container was never started: later on its guest may have written to a raw disk
/// what looks like a header, and that means nothing. Returns which files they are.
///
/// # Errors
/// An image that is not of its declared format, or that names other files.
pub fn check(attachments: &Attachments, request: &Request, first: bool) -> Result<Vec<Judged>> {
    let files = attachments.disks.iter().filter_map(|disk| match disk.source {
        DiskSource::File(mount) => Some((disk, request.mounts.get(mount)?)),
        _ => None,
    });
    files.map(|(disk, mount)| one(disk, mount, first)).collect()
}

fn one(disk: &Disk, mount: &Mount, first: bool) -> Result<Judged> {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let what = format!("--blockdev source={}", mount.destination().display());
    let open = OpenOptions::new()
        .read(true)
        .write(!disk.read_only)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(source);
    let file = open.context(&what)?;
    let name = Path::new(&what);
    let declared = (!first).then_some(disk.format);
    let found = image::inspect(name, &file, declared)?.format;
    if found != disk.format {
        let why = format!("declared {}, but it is a {found} image", disk.format);
        return Err(Error::new(what, why).hint(format!("format={found}")));
    }
    let used = if disk.read_only { locks::is_written(&file)? } else { locks::is_used(&file)? };
    if used {
        return Err(Error::new(what, "another VM uses it").hint("stop that one first"));
    }
    Judged::new(&what, &disk.path(), &file)
}
