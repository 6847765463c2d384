//! Directory for findings about the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};

use crate::host::policy::home;

/// The directory: the system's for root, else the user's own. It need not be there yet.
pub fn directory() -> Option<PathBuf> {
    // In a rootless engine's user namespace the effective user is root; the file's owner decides.
    let system = Path::new("/var/cache");
    let is_root = Uid::effective().is_root() && fs::metadata("/").ok()?.uid() == 0;
    if is_root && access(system, AccessFlags::W_OK).is_ok() {
        return Some(system.join("crun-qemu"));
    }
    Some(home()?.join(".cache/crun-qemu"))
}
