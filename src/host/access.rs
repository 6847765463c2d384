//! Which devices the container's processes can open. This code runs in crun, which has the groups of the engine's user;
//! the container's processes have lost them, and may be another host user.
//!
//! Only the kernel can tell: owners, groups, access control lists and user namespaces all count. So a process with the
//! container's credentials asks it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

/// Credentials of the container's processes on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User and group, if the container has a user namespace of its own.
    pub mapped_root: Option<(u32, u32)>,
    /// The processes keep the supplementary groups of the engine's user.
    pub keeps_groups: bool,
}

impl Identity {
    /// Which of these devices, seven at most, the processes can read and write. A missing device counts as closed.
    pub fn permits<const N: usize>(&self, devices: [&Path; N]) -> [bool; N] {
        if self.mapped_root.is_none() && is_real_root() {
            return [true; N];
        }
        let devices = devices.map(|path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default());
        // SAFETY: the child makes system calls and ends; it allocates nothing and takes no lock.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                let answers = self.become_them().map(|()| devices.each_ref().map(can_open));
                let bits = answers
                    .map_or(ALL, |answers| (0..).zip(answers).fold(0, |bits, (n, yes)| bits | i32::from(yes) << n));
                // SAFETY: ends the process at once.
                unsafe { libc::_exit(bits) }
            }
            Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, bits)) => std::array::from_fn(|n| bits & 1 << n != 0),
                _ => [true; N],
            },
            // QEMU reports it then.
            Err(_) => [true; N],
        }
    }

    /// Takes on the credentials as crun does; `None` if that is not possible.
    fn become_them(&self) -> Option<()> {
        let done = |result: libc::c_long| (result == 0).then_some(());
        if !self.keeps_groups {
            // SAFETY: no groups are read. Where a namespace forbids it crun leaves the groups, too.
            unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
        }
        let Some((uid, gid)) = self.mapped_root else { return Some(()) };
        let header: [u32; 2] = [VERSION_3, 0];
        // Their capabilities do not reach beyond their namespace.
        let none = [0u32; 6];
        // SAFETY: plain numbers.
        done(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
        // SAFETY: plain numbers.
        done(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
        // SAFETY: header and sets have the layout of version 3, and 0 stands for the calling thread.
        done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
    }
}

/// Whether `device` is open to this process's user by one of its groups only: not as the owner, not to everybody, and
/// not by name in an access control list.
pub fn by_group_alone(device: &Path) -> bool {
    let Ok(metadata) = fs::metadata(device) else { return false };
    let (mode, owned) = (metadata.mode(), metadata.uid() == geteuid().as_raw());
    let alone = mode & 0o060 == 0o060 && mode & 0o006 != 0o006 && !(owned && mode & 0o600 == 0o600);
    alone && !geteuid().is_root() && !has_list(device)
}

fn has_list(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let name = c"system.posix_acl_access";
    // SAFETY: path and name end with a NUL; without a buffer the length alone is told.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Every device.
const ALL: i32 = 0x7f;

/// Whether this process may open the device; real and effective ids are the same.
fn can_open(path: &CString) -> bool {
    // SAFETY: the path ends with a NUL and outlives the call.
    unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK) == 0 }
}

/// Whether root here is the host's root, which file modes do not restrict.
pub fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::thread;

    use super::*;

    /// A group and a user that no account has.
    const GROUP: u32 = 54321;
    const USER: u32 = 54322;
    /// `CAP_SETGID`, `CAP_SETUID`.
    const NEEDED: u32 = 1 << 6 | 1 << 7;

    /// Runs `body` in a thread that is like crun of a rootless engine: in a group, and bound by the modes of files.
    fn as_crun<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        let body = move || {
            let (groups, header, sets) = ([GROUP], [VERSION_3, 0], [NEEDED, NEEDED, 0, 0, 0, 0]);
            // SAFETY: one group, as said; system calls of their own change the calling thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()) }, 0, "the test needs root");
            // SAFETY: header and sets have the layout of version 3.
            assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }, 0);
            body()
        };
        thread::spawn(body).join().unwrap()
    }

    #[test]
    fn a_group_is_lost_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let device = dir.path().join("kvm");
        fs::write(&device, "").unwrap();
        let set = |owner, group, mode| {
            chown(&device, Some(owner), Some(group)).unwrap();
            fs::set_permissions(&device, Permissions::from_mode(mode)).unwrap();
        };
        let permits = |keeps_groups| {
            let path = device.clone();
            let identity = Identity { mapped_root: Some((USER, USER)), keeps_groups };
            as_crun(move || {
                // crun itself can.
                fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
                identity.permits([&path, Path::new("/nowhere")])
            })
        };
        set(0, GROUP, 0o660);
        assert_eq!((permits(false), permits(true)), ([false, false], [true, false]));
        set(USER, GROUP, 0o660);
        assert_eq!(permits(false), [true, false]);
        set(0, GROUP, 0o666);
        assert_eq!(permits(false), [true, false]);
    }

    #[test]
    fn root_of_the_hosts_is_not_asked() {
        let identity = Identity { mapped_root: None, keeps_groups: false };
        assert_eq!(identity.permits([Path::new("/nowhere")]), [is_real_root()]);
    }
}
