//! Orphans, which PID 1 inherits. libvirt waits for its own children in the same process, and these must not be reaped.
//!
//! The kernel distinguishes them: a child belongs to the thread that forked it, an orphan to the main thread, and it is
//! possible to wait for the children of one thread only.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getsid};

/// Looks after dead children of the thread that it is used in: the main one, in which libvirt must not be called.
#[derive(Default)]
pub struct Reaper {
    /// Our own children whose end matters.
    own: Vec<Pid>,
}

/// A process whose end must be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dead {
    /// One of libvirt's daemons was killed.
    Killed(Killed),
    /// A child of our own.
    Own(Pid, WaitStatus),
}

/// One of libvirt's daemons that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Name of the program, at most 15 bytes of it.
    pub program: String,
    /// The signal that killed it.
    pub signal: Signal,
}

impl Reaper {
    /// A reaper that also handles these children.
    pub fn of(own: impl Iterator<Item = Pid>) -> Self {
        Self { own: own.collect() }
    }

    /// Reaps the dead; to be called after SIGCHLD.
    pub fn sweep(&mut self) -> Vec<Dead> {
        let mut all = Vec::new();
        while let Some((status, pid)) = dead() {
            if self.own.contains(&pid) {
                self.own.retain(|own| *own != pid);
                all.push(Dead::Own(pid, status));
            } else if is_daemon(pid) {
                all.extend(killed_by(&status, pid).map(Dead::Killed));
            }
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        }
        all
    }
}

/// A dead child of this thread's and its state, which stays as it is.
fn dead() -> Option<(WaitStatus, Pid)> {
    let looking = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WNOTHREAD;
    let status = waitid(Id::All, looking).ok()?;
    status.pid().filter(|_| status != WaitStatus::StillAlive).map(|pid| (status, pid))
}

/// A process that detached itself, as QEMU does, is in the session of the parent that it left; our children are in our
/// session or lead their own.
fn is_daemon(pid: Pid) -> bool {
    getsid(Some(pid)).is_ok_and(|session| session != pid && Ok(session) != getsid(None))
}

fn killed_by(status: &WaitStatus, pid: Pid) -> Option<Killed> {
    let WaitStatus::Signaled(_, signal, _) = *status else { return None };
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    Some(Killed { program, signal })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Barrier;

    use super::*;

    /// A child that is dead and not yet waited for, run as `sh -c SCRIPT`.
    fn dead_child(script: &str) -> Child {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let id = Id::Pid(Pid::from_raw(child.id() as i32));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        child
    }

    /// One test, because children belong to the whole process.
    #[test]
    fn the_dead_of_this_thread_and_of_no_other() {
        let mut reaper = Reaper::default();
        let mut mine = dead_child("exit 0");
        assert_eq!(reaper.sweep(), []);
        assert!(mine.wait().is_err(), "left behind");

        let mut own = dead_child("exit 5");
        let pid = Pid::from_raw(own.id() as i32);
        assert_eq!(Reaper::of([pid].into_iter()).sweep(), [Dead::Own(pid, WaitStatus::Exited(pid, 5))]);
        assert!(own.wait().is_err(), "left behind");

        // As in libvirt, the thread waits later, by any amount of time.
        let (died, go_on) = (Barrier::new(2), Barrier::new(2));
        let status = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut child = dead_child("exit 3");
                died.wait();
                go_on.wait();
                child.wait().map(|status| status.code())
            });
            died.wait();
            let mut behind = dead_child("exit 0");
            assert_eq!(reaper.sweep(), []);
            assert!(behind.wait().is_err(), "one that is not ours kept another from being reaped");
            go_on.wait();
            other.join().unwrap()
        });
        assert_eq!(status.unwrap(), Some(3), "stolen from the one who waits");
    }
}
