//! Tells the engine's own mounts from the user's.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::{Engine, is_init};

/// The kernel's directories. The engine mounts them and what is below them in every container, and the processes around
/// the VM use them too.
pub const KERNEL: &[&str] = &["/dev", "/proc", "/sys"];
/// Files that the engine makes for the container: no process in it has to write them, and engines read them again.
const FILES: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
/// Directories among the kernel's that everybody can write to, in a pod the other containers too, and that no process
/// around the VM needs.
const SHARED_MEMORY: &[&str] = &["/dev/mqueue", "/dev/shm"];
/// Mounts for the container's own programs, of which a VM has none.
const FOR_PROGRAMS: &[&str] = &["/run", "/run/lock", "/run/secrets", "/var/log/journal", "/dev/termination-log"];
/// The same, but only with a read-only root: otherwise the user asked for them.
const FOR_READ_ONLY_ROOT: &[&str] = &["/tmp", "/var/tmp"];

/// Purpose of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The user asked for it.
    User,
    /// A file that the engine makes for the container, such as `/etc/hosts`.
    EngineFile,
    /// The kernel's, needed by the processes around the VM.
    Kernel,
    /// For programs in the container; a VM has no use for it.
    Programs,
}

impl Engine {
    /// The purpose of `mount`; `read_only_root`: the container's root is read-only.
    pub fn purpose(self, mount: &Mount, read_only_root: bool) -> Purpose {
        let target = &*mount.destination().to_string_lossy();
        match target {
            _ if self.is_surely_user_mount(mount) => Purpose::User,
            _ if FILES.contains(&target) => Purpose::EngineFile,
            _ if SHARED_MEMORY.contains(&target) && shows_kernel(mount) => Purpose::Programs,
            _ if is_below(target, KERNEL) && shows_kernel(mount) => Purpose::Kernel,
            _ if FOR_PROGRAMS.contains(&target) || is_init(target) => Purpose::Programs,
            _ if read_only_root && is_for_read_only_root(mount) => Purpose::Programs,
            _ => Purpose::User,
        }
    }

    /// Whether podman marks the bind mount as the user's: podman makes its own without `rbind`.
    pub fn marks_user_bind(self, mount: &Mount) -> bool {
        self == Self::Podman && mount.options().iter().flatten().any(|o| o == "rbind")
    }

    /// A marked bind of the kernel's own directories is podman's all the same.
    fn is_surely_user_mount(self, mount: &Mount) -> bool {
        self.marks_user_bind(mount) && !is_from_kernel(mount)
    }

    /// Whether the mount is a secret. podman keeps a container's secrets in its bundle, one file each; other engines
    /// mount them below one directory.
    pub fn is_secret(self, mount: &Mount) -> bool {
        match self {
            Self::Podman => {
                mount.source().as_deref().and_then(Path::parent).is_some_and(|dir| dir.ends_with("userdata/secrets"))
            }
            _ => mount.destination().starts_with("/run/secrets"),
        }
    }
}

fn is_for_read_only_root(mount: &Mount) -> bool {
    let target = mount.destination().to_string_lossy();
    let sized = mount.options().iter().flatten().any(|o| o.starts_with("size=") || o.starts_with("mode="));
    FOR_READ_ONLY_ROOT.contains(&&*target) && mount.typ().as_deref() == Some("tmpfs") && !sized
}

/// Whether the mount shows something that has a path on the host.
pub fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind") || options.any(|o| o == "bind" || o == "rbind")
}

/// Whether `path` is one of `dirs` or below one.
pub fn is_below(path: &str, dirs: &[&str]) -> bool {
    dirs.iter().any(|dir| Path::new(path).starts_with(dir))
}

fn is_from_kernel(mount: &Mount) -> bool {
    mount.source().as_deref().is_some_and(|source| KERNEL.iter().any(|dir| source.starts_with(dir)))
}

/// Whether a mount below `/dev`, `/proc` or `/sys` shows the kernel's own files or an empty directory. Anything else is
/// a directory that someone filled: an image's `VOLUME /proc` would be a forged one.
fn shows_kernel(mount: &Mount) -> bool {
    let destination = mount.destination();
    match mount.typ().as_deref() {
        _ if is_bind(mount) => is_from_kernel(mount) || destination == Path::new("/dev/shm"),
        Some("tmpfs") => destination.starts_with("/dev"),
        _ => true,
    }
}
