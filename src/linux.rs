//! System calls that the libraries in use do not wrap. Runs in every process of the project; no input is hostile.

use nix::Result;
use nix::errno::Errno;

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION_3: u32 = 0x2008_0522;

/// Sets the calling thread's effective and permitted capabilities to `kept`, one bit for each number in
/// `linux/capability.h`, and clears the inheritable ones.
///
/// # Errors
/// When the thread does not have one of them.
pub fn set_capabilities(kept: u64) -> Result<()> {
    let header: [u32; 2] = [VERSION_3, 0];
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    // Effective, permitted and inheritable, the low words first.
    let sets: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: header and sets have the layout of version 3 and outlive the call, which only reads them; 0 stands for the
    // calling thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}
