//! Orphans: PID 1 inherits them. libvirt waits for children of its own in the same process, which must not be stolen.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getsid};

/// A child for which libvirt waits is gone by then: it waits as soon as the child's output has ended.
const GRACE: Duration = Duration::from_secs(1);

/// Looks after dead children.
#[derive(Default)]
pub struct Reaper {
    /// A dead child that may be libvirt's own, and when it is not any more.
    suspect: Option<(Pid, Instant)>,
    /// Children for whom nobody else waits.
    own: Vec<Pid>,
}

/// Whose end somebody has to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dead {
    /// A daemon of libvirt's that was killed.
    Killed(Killed),
    /// A child of our own.
    Own(Pid, WaitStatus),
}

/// A daemon of libvirt's that was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// Name of the program, at most 15 bytes of it.
    pub program: String,
    /// What killed it.
    pub signal: Signal,
}

impl Reaper {
    /// Looks after these children of ours, too.
    pub fn of(own: impl Iterator<Item = Pid>) -> Self {
        Self { suspect: None, own: own.collect() }
    }

    /// Reaps who may be reaped; to be called after SIGCHLD and at the [`deadline`](Self::deadline).
    pub fn sweep(&mut self, now: Instant) -> Vec<Dead> {
        let mut all = Vec::new();
        while let Some((status, pid)) = dead() {
            match self.suspect {
                _ if self.own.contains(&pid) => {
                    self.own.retain(|own| *own != pid);
                    all.push(Dead::Own(pid, status));
                }
                _ if is_daemon(pid) => all.extend(killed_by(&status, pid).map(Dead::Killed)),
                Some((suspect, due)) if suspect == pid && now >= due => {}
                Some((suspect, _)) if suspect == pid => return all,
                _ => {
                    self.suspect = Some((pid, now + GRACE));
                    return all;
                }
            }
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        }
        self.suspect = None;
        all
    }

    /// When to sweep again even without a signal.
    pub fn deadline(&self) -> Option<Instant> {
        self.suspect.map(|(_, due)| due)
    }
}

/// A dead child and its state, which stays as it is.
fn dead() -> Option<(WaitStatus, Pid)> {
    let looking = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let status = waitid(Id::All, looking).ok()?;
    status.pid().filter(|_| status != WaitStatus::StillAlive).map(|pid| (status, pid))
}

/// A process that detached itself, as QEMU does, is in the session of the parent that it left; children of ours are in
/// our session or lead their own. libvirt watches its daemons go, so they are not kept waiting.
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

    use super::*;

    /// A child that is dead and not yet waited for, run as `sh -c SCRIPT`.
    fn dead_child(script: &str) -> Child {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let id = Id::Pid(Pid::from_raw(child.id() as i32));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        child
    }

    /// One test: children are the whole process' business.
    #[test]
    fn orphans_after_a_grace_and_daemons_at_once() {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let mut reaper = Reaper::default();
        let now = Instant::now();
        let mut child = dead_child("exit 3");
        assert_eq!(reaper.sweep(now), []);
        assert_eq!(reaper.sweep(now + GRACE / 2), []);
        assert_eq!(child.wait().unwrap().code(), Some(3), "stolen from the one who waits");
        reaper.sweep(now + GRACE);
        assert_eq!(reaper.deadline(), None);

        let mut own = dead_child("exit 5");
        let pid = Pid::from_raw(own.id() as i32);
        assert_eq!(Reaper::of([pid].into_iter()).sweep(now), [Dead::Own(pid, WaitStatus::Exited(pid, 5))]);
        assert!(own.wait().is_err(), "left behind");

        let mut orphan = dead_child("exit 0");
        reaper.sweep(now);
        assert_eq!(reaper.deadline(), Some(now + GRACE));
        reaper.sweep(now + GRACE);
        assert!(orphan.wait().is_err(), "left behind");

        let script = "setsid sh -c 'sh -c \"sleep 0.3; kill -KILL \\$\\$\" & exit'";
        assert!(Command::new("/bin/sh").args(["-c", script]).status().unwrap().success());
        waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        assert_eq!(reaper.sweep(now), [Dead::Killed(Killed { program: "sh".into(), signal: Signal::SIGKILL })]);
        assert!(waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err(), "left behind");
    }
}
