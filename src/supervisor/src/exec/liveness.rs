//! Liveness of the VM: the supervisor holds a lock, which the kernel releases however the supervisor ends.
//!
//! When PID 1 exits, the kernel kills everything in the container. Execs hold a lock of their own, for which the
//! supervisor waits, so that they can print their last message.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crun_qemu::error::{Context, Result};

/// Longest time the supervisor waits for the last messages, which take milliseconds.
const LAST_MESSAGE: Duration = Duration::from_secs(2);
/// Between looks at what cannot be waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// Marks the VM as running until the returned lock is released. For the supervisor, once.
///
/// # Errors
/// When `path` cannot be made.
pub fn hold_vm_lock(path: &Path) -> Result<Flock<File>> {
    // Lock before renaming into place: a reader that finds it unlocked concludes that the VM has ended.
    let new = path.with_extension("new");
    let lock =
        Flock::lock(lock_file(&new)?, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).context(path.display())?;
    fs::rename(&new, path).context(path.display())?;
    Ok(lock)
}

/// Marks the VM as ended, and gives processes with an exec lock time to exit by themselves.
pub fn release(alive: Flock<File>, execs: &Path) {
    drop(alive);
    let deadline = Instant::now() + LAST_MESSAGE;
    while attended(execs) && Instant::now() < deadline {
        sleep(PAUSE);
    }
}

/// Keeps the supervisor from ending at once, until the value returned is dropped. For execs.
///
/// # Errors
/// When `execs` cannot be made.
pub fn hold_exec_lock(execs: &Path) -> Result<Flock<File>> {
    Flock::lock(lock_file(execs)?, FlockArg::LockShared).map_err(|(_, e)| e).context(execs.display())
}

/// Waits for the VM's end, and for its start if it has not started yet.
pub fn wait_for_end(path: &Path) {
    // A signal interrupts the wait for a lock.
    while !File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockShared).is_ok()) {
        sleep(PAUSE);
    }
}

fn attended(execs: &Path) -> bool {
    File::open(execs).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

/// Opens a lock file, readable and writable only by its owner, and creates it if it is missing.
pub fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    file.context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn release_waits_for_exec_locks() {
        let dir = tempfile::tempdir().unwrap();
        let (alive, execs) = (dir.path().join("alive"), dir.path().join("execs"));
        let (said, saying) = channel();
        let exec = {
            let (alive, execs) = (alive.clone(), execs.clone());
            let attending = hold_exec_lock(&execs).unwrap();
            std::thread::spawn(move || {
                wait_for_end(&alive);
                said.send(()).unwrap();
                drop(attending);
            })
        };
        let held = hold_vm_lock(&alive).unwrap();
        assert!(saying.recv_timeout(Duration::from_millis(200)).is_err(), "before the start and while it runs");
        release(held, &execs);
        assert_eq!(saying.try_recv(), Ok(()), "the supervisor did not wait");
        exec.join().unwrap();
    }
}
