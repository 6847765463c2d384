//! Separate namespaces for what runs on the host, outside any container.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crun_qemu::error::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Limits far above what the work needs.
const LIMITS: &[(Resource, u64)] =
    &[(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_CPU, 60), (Resource::RLIMIT_FSIZE, 256 << 20)];

/// Runs `body` as the first process of new namespaces: without a network, without a view of other processes, with its
/// own mount table. All processes that it starts end with it, and it ends with the caller. Returns its exit status.
///
/// To be called before there is a second thread.
///
/// # Errors
/// The namespaces cannot be made.
pub fn run(body: impl FnOnce() -> i32) -> Result<i32> {
    close_inherited();
    set_no_new_privs().context("no new privileges")?;
    for (resource, limit) in LIMITS {
        setrlimit(*resource, *limit, *limit).context("limits")?;
    }
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).context("namespaces")?;
    // SAFETY: this process has one thread, so that the child can do all that its parent can; it never returns.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let body = || set_pdeathsig(Signal::SIGKILL).map_or(1, |()| body());
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(1);
            // SAFETY: ends the process at once; the threads of libraries may be at work.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, status)) => return Ok(status),
                Err(Errno::EINTR) => {}
                _ => return Ok(1),
            }
        },
    }
}

/// QEMU must not inherit the open files of an engine or crun.
fn close_inherited() {
    // SAFETY: plain numbers; this process has just begun and has opened nothing that it will use.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}
