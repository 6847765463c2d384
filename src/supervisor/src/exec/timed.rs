//! Waiting that ends at a deadline, whatever it is for.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::network::fd_store::open_process;

/// Time left until the deadline; zero when it has passed.
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Waits for an exclusive lock; `None` when the deadline passes.
///
/// # Errors
/// When the file takes no locks.
pub fn lock(file: File, deadline: Instant) -> Result<Option<Flock<File>>> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(Some(lock)),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, e)) => return Err(e).context("lock"),
    };
    // The kernel's wait for a lock has no timeout. A lock that arrives after the wait has ended is released at once.
    let (sender, receiver) = channel();
    thread::spawn(move || {
        // Signals are for the thread that waits for them.
        let _ = SigSet::all().thread_block();
        let _ = sender.send(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e));
    });
    match receiver.recv_timeout(left(deadline)) {
        Ok(lock) => lock.context("lock").map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(Error::new("lock", "its thread ended")),
    }
}

/// Waits for the end of a process, and kills it when the deadline passes: `None` then.
///
/// # Errors
/// When it cannot be waited for.
pub fn end(mut child: Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    let process = open_process(Pid::from_raw(child.id() as i32))?;
    loop {
        let time = left(deadline);
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Ok(0) if time.is_zero() => break,
            // Less than a millisecond is left, or more than one wait can be.
            Ok(0) => {}
            polled => {
                polled.context("poll")?;
                return child.wait().context("wait").map(Some);
            }
        }
    }
    let _ = child.kill();
    child.wait().context("wait")?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn for_a_lock_that_another_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let file = || File::create(&path).unwrap();
        let held = lock(file(), soon()).unwrap().unwrap();
        assert!(lock(file(), soon()).unwrap().is_none());
        let waiting = {
            let file = file();
            thread::spawn(move || lock(file, Instant::now() + Duration::from_secs(60)).unwrap())
        };
        thread::sleep(Duration::from_millis(50));
        drop(held);
        assert!(waiting.join().unwrap().is_some());
    }

    #[test]
    fn for_a_process_that_does_not_end() {
        let start = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap();
        assert_eq!(end(start("exit 3"), Instant::now() + Duration::from_secs(60)).unwrap().unwrap().code(), Some(3));
        let child = start("exec sleep 1000");
        let pid = Pid::from_raw(child.id() as i32);
        assert_eq!(end(child, soon()).unwrap(), None);
        assert_eq!(nix::sys::signal::kill(pid, None), Err(Errno::ESRCH), "it lives on");
    }
}
