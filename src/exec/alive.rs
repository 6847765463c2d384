//! Whether the VM still runs: the supervisor holds a lock for as long, which the kernel lets go whatever its end.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Result};

/// Says that the VM runs until the value returned is dropped. For the supervisor, once.
///
/// # Errors
/// When `path` cannot be made or is held already.
pub fn hold(path: &Path) -> Result<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.context(path.display())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).context(path.display())
}

/// The VM was there and has ended. Before its start it has not.
pub fn ended(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_is_after_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alive");
        assert!(!ended(&path), "not started");
        let held = hold(&path).unwrap();
        assert!(!ended(&path), "running");
        drop(held);
        assert!(ended(&path));
    }
}
