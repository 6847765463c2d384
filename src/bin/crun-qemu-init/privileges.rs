//! Capabilities: what the supervisor has is the engine's choice, what QEMU has is next to nothing.

use std::fs;

use crun_qemu::error::{Context, Error, Result};

/// `CAP_DAC_OVERRIDE`, a bit number from `linux/capability.h`. QEMU keeps it if the engine granted it: an image's file
/// may belong to any user and be closed to others.
const DAC_OVERRIDE: u64 = 1 << 1;
/// `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP`. Whatever libvirt starts as root, it starts with a change of user and of
/// capabilities that needs these, though it changes nothing. QEMU's own seccomp filter denies it their use.
const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// `CAP_NET_BIND_SERVICE`: QEMU's user network listens on the ports that `--port` names.
const NET_BIND_SERVICE: u64 = 1 << 10;
/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION_3: u32 = 0x2008_0522;

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

/// Gives up the calling thread's capabilities but for those that QEMU may keep; what it starts gets no more.
///
/// libvirt's own way, `clear_emulator_capabilities`, leaves none, and so no way to a closed image.
pub fn give_up() -> Result<()> {
    keep(DAC_OVERRIDE | NET_BIND_SERVICE | NEEDED)
}

/// Gives up the calling thread's capabilities but for these, as far as it has them.
pub fn keep(these: u64) -> Result<()> {
    let kept = (permitted()? & these) as u32;
    let header: [u32; 2] = [VERSION_3, 0];
    // Effective, permitted and inheritable, the low words first.
    let sets: [u32; 6] = [kept, kept, 0, 0, 0, 0];
    // SAFETY: header and sets have the layout of version 3, and 0 stands for the calling thread.
    match unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Error::new("capabilities", std::io::Error::last_os_error().to_string())),
    }
}

/// The calling thread's permitted capabilities, a bit each.
pub fn permitted() -> Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").context("/proc/thread-self/status")?;
    parse_permitted(&status).ok_or_else(|| Error::new("capabilities", "the kernel does not tell them"))
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
