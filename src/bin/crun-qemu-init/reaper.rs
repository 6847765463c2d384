//! Children that nobody waits for: this process is the container's init.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use crun_qemu::error::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getsid};

/// libvirt waits for its own children, at once: what is left after this time is an orphan.
const GRACE: Duration = Duration::from_secs(1);

/// Starts reaping, in a thread of its own: while libvirt starts QEMU, it waits for processes of QEMU's to be gone.
/// Every thread that starts later has SIGCHLD blocked too.
pub fn start() -> Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().context("SIGCHLD")?;
    let children = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("SIGCHLD")?;
    thread::spawn(move || {
        let mut reaper = Reaper::default();
        loop {
            let again = reaper.reap();
            let timeout = again.map_or(PollTimeout::NONE, |t| PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX));
            let _ = poll(&mut [PollFd::new(children.as_fd(), PollFlags::POLLIN)], timeout);
            while let Ok(Some(_)) = children.read_signal() {}
        }
    });
    Ok(())
}

/// Reaps orphans and leaves libvirt's children alone.
#[derive(Default)]
struct Reaper {
    /// The zombie at the head of the kernel's list, and since when it was seen there.
    seen: Option<(Pid, Instant)>,
}

impl Reaper {
    /// Looks for zombies. Returns after which time to look again.
    fn reap(&mut self) -> Option<Duration> {
        loop {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, peek) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => pid,
                _ => {
                    self.seen = None;
                    return None;
                }
            };
            let since = match self.seen {
                Some((seen, since)) if seen == pid => since,
                _ => Instant::now(),
            };
            self.seen = Some((pid, since));
            match GRACE.checked_sub(since.elapsed()) {
                Some(rest) if !rest.is_zero() && !is_daemon(pid) => return Some(rest),
                _ => drop(waitpid(pid, Some(WaitPidFlag::WNOHANG))),
            }
        }
    }
}

/// A process that detached itself, as QEMU does, is in the session of the parent that it left; children of ours are in
/// our session or lead their own.
fn is_daemon(pid: Pid) -> bool {
    getsid(Some(pid)).is_ok_and(|session| session != pid && Ok(session) != getsid(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn an_orphan_has_its_grace() {
        let child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut reaper = Reaper::default();
        while reaper.reap().is_none() {}
        thread::sleep(GRACE + Duration::from_millis(50));
        reaper.reap();
        assert!(waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err(), "still there");
    }
}
