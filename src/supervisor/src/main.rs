//! The container's process.

use std::ffi::OsString;

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A panic is a failed VM like any other; its message is already on stderr.
    let status = std::panic::catch_unwind(|| supervisor::run(&args)).unwrap_or(1);
    exit_now(status)
}

/// Ends the process without running the destructors of the libraries: libvirt's threads are still at work.
fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and touches no memory of ours; nothing of ours is buffered.
    unsafe { libc::_exit(status) }
}
