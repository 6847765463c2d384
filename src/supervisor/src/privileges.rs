//! Capabilities: the engine decides what the supervisor has; QEMU has none, or almost none.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::supervisor_config::Ids;
use crun_qemu::linux;
use nix::errno::Errno;
use nix::unistd::{Gid, chown};

/// `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP`, bit numbers from `linux/capability.h`. Whatever libvirt starts as root,
/// it starts with a change of user and of capabilities that needs these, though it may change nothing.
const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// `CAP_NET_BIND_SERVICE`: QEMU's user network listens on the ports that `--port` names.
const NET_BIND_SERVICE: u64 = 1 << 10;

/// Makes sure that nothing started from here gains a privilege: not by a set-uid program, and not by being root either.
///
/// # Errors
/// When the container has too little for libvirt.
pub fn confine() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("no new privileges")?;
    if permitted()? & NEEDED != NEEDED {
        let error = Error::new("capabilities", "the container lacks some that libvirt needs to start QEMU");
        return Err(error.hint("--cap-add setuid,setgid,setpcap"));
    }
    Ok(())
}

/// Drops the calling thread's capabilities except the one to listen on any port and those without which libvirt starts
/// nothing; programs that the thread starts get no more. QEMU's own seccomp filter forbids the use of the latter.
///
/// For a QEMU that listens on a port below 1024: libvirt's own `clear_emulator_capabilities` leaves none.
pub fn keep_ports() -> Result<()> {
    keep(NET_BIND_SERVICE | NEEDED)
}

/// Gives up the calling thread's capabilities but for these, as far as it has them.
pub fn keep(these: u64) -> Result<()> {
    let kept = permitted()? & these;
    linux::set_capabilities(kept).context("capabilities")
}

/// Has whatever the calling thread starts never have a capability again, but for those that it starts with.
///
/// # Errors
/// When the thread may not.
pub fn bound() -> Result<()> {
    for capability in 0..u64::BITS {
        // SAFETY: numbers; the thread's own capabilities stay.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            // The kernel does not have that many.
            Err(Errno::EINVAL) => break,
            result => result.context("capabilities")?,
        };
    }
    Ok(())
}

/// Lets QEMU, which runs as `user`, connect to the socket `path`.
pub fn let_in(path: &Path, user: Option<Ids>) -> Result<()> {
    open_to(path, user, 0o660)
}

/// Lets QEMU, which runs as `user`, reach known paths in the directory `path`.
pub fn let_through(path: &Path, user: Option<Ids>) -> Result<()> {
    open_to(path, user, 0o710)
}

fn open_to(path: &Path, user: Option<Ids>, mode: u32) -> Result<()> {
    let Some(Ids { gid, .. }) = user else { return Ok(()) };
    chown(path, None, Some(Gid::from_raw(gid))).context(path.display())?;
    fs::set_permissions(path, Permissions::from_mode(mode)).context(path.display())
}

/// The calling thread's permitted capabilities, a bit each.
pub fn permitted() -> Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").context("/proc/thread-self/status")?;
    parse_permitted(&status).ok_or_else(|| Error::new("capabilities", "the kernel does not report them"))
}

fn parse_permitted(status: &str) -> Option<u64> {
    u64::from_str_radix(status.lines().find_map(|l| l.strip_prefix("CapPrm:"))?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permitted_capabilities() {
        for (status, want) in [
            ("CapInh:\t0000000000000000\nCapPrm:\t00000000800405fb\n", Some(0x8004_05fb)),
            ("CapPrm:\t0000000000000000\n", Some(0)),
            ("Name:\tx\n", None),
        ] {
            assert_eq!(parse_permitted(status), want, "{status}");
        }
    }
}
