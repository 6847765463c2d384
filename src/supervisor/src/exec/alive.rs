//! Whether the VM still runs: the supervisor holds a lock for as long, which the kernel lets go whatever its end.
//!
//! With the supervisor the kernel kills everything in the container, so execs have a lock of their own, for which the
//! supervisor waits: they have a last word to say.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crun_qemu::error::{Context, Result};

/// How long the supervisor waits for the last words, which take milliseconds.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between looks at what cannot be waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// Says that the VM runs until the value returned is let go. For the supervisor, once.
///
/// # Errors
/// When `path` cannot be made.
pub fn hold(path: &Path) -> Result<Flock<File>> {
    // It is locked before it can be found: who finds it free takes the VM for ended.
    let new = path.with_extension("new");
    let lock = Flock::lock(open(&new)?, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).context(path.display())?;
    fs::rename(&new, path).context(path.display())?;
    Ok(lock)
}

/// Says that the VM has ended and gives those who [`attend`] the time to end by themselves.
pub fn let_go(alive: Flock<File>, execs: &Path) {
    drop(alive);
    let deadline = Instant::now() + LAST_WORDS;
    while attended(execs) && Instant::now() < deadline {
        sleep(PAUSE);
    }
}

/// Keeps the supervisor from ending at once, until the value returned is dropped. For execs.
///
/// # Errors
/// When `execs` cannot be made.
pub fn attend(execs: &Path) -> Result<Flock<File>> {
    Flock::lock(open(execs)?, FlockArg::LockShared).map_err(|(_, e)| e).context(execs.display())
}

/// Waits for the VM's end; for its start, too, if it is not there yet.
pub fn wait_for_end(path: &Path) {
    // A signal interrupts the wait for a lock.
    while !File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockShared).is_ok()) {
        sleep(PAUSE);
    }
}

fn attended(execs: &Path) -> bool {
    File::open(execs).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    file.context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_end_is_told_and_last_words_are_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (alive, execs) = (dir.path().join("alive"), dir.path().join("execs"));
        let (said, saying) = channel();
        let exec = {
            let (alive, execs) = (alive.clone(), execs.clone());
            let attending = attend(&execs).unwrap();
            std::thread::spawn(move || {
                wait_for_end(&alive);
                said.send(()).unwrap();
                drop(attending);
            })
        };
        let held = hold(&alive).unwrap();
        assert!(saying.recv_timeout(Duration::from_millis(200)).is_err(), "before the start and while it runs");
        let_go(held, &execs);
        assert_eq!(saying.try_recv(), Ok(()), "the supervisor did not wait");
        exec.join().unwrap();
    }
}
