//! What becomes of the container's mounts.

use std::path::Path;

use oci_spec::runtime::Mount;

use crate::error::{Error, Result};
use crate::request::is_engine_init;

/// Mounts that the engine makes in every container and that serve the processes around the VM too. Directories are
/// meant with everything below them.
const KEPT_DIRS: &[&str] = &["/dev", "/proc", "/sys"];
const KEPT_FILES: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
/// Mounts that the engine makes for the container's own programs, of which there are none.
const DROPPED: &[&str] = &["/run", "/run/lock", "/run/secrets", "/tmp", "/var/tmp", "/var/log/journal"];

pub(super) fn kept(mounts: &[Mount]) -> Result<Vec<usize>> {
    let mut kept = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let destination = mount.destination();
        let name = destination.to_string_lossy();
        let system = KEPT_DIRS.iter().any(|dir| destination.starts_with(dir));
        if KEPT_FILES.contains(&&*name) || (system && is_the_kernels(mount)) {
            kept.push(index);
        } else if !DROPPED.contains(&&*name) && !is_engine_init(&name) {
            return Err(Error::new(format!("mount {name}"), "passing it to the guest is not supported yet"));
        }
    }
    Ok(kept)
}

/// Whether what is below `/dev`, `/proc` or `/sys` shows something of the kernel's or an empty directory. The rest is a
/// directory of somebody's: an image's `VOLUME /proc` would be a forged one.
fn is_the_kernels(mount: &Mount) -> bool {
    let (destination, source) = (mount.destination(), mount.source().as_deref());
    let options = mount.options().iter().flatten();
    let bind = mount.typ().as_deref() == Some("bind") || options.into_iter().any(|o| o == "bind" || o == "rbind");
    let from_kernel = source.is_some_and(|s| KEPT_DIRS.iter().any(|dir| s.starts_with(dir)));
    match mount.typ().as_deref() {
        _ if bind => from_kernel || destination == Path::new("/dev/shm"),
        Some("tmpfs") => destination.starts_with("/dev"),
        _ => true,
    }
}
