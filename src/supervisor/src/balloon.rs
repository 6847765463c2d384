//! Targets for the guest's memory, which the host writes into a file while the VM runs.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crun_qemu::error::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Watches for a file that is replaced with each target; readable when there is a new one.
pub struct MemoryTargets<'a> {
    file: &'a Path,
    inotify: Inotify,
    /// A target that was written before anything watched the file.
    early: Option<u64>,
}

impl<'a> MemoryTargets<'a> {
    /// Looks out for `file` from now on.
    ///
    /// # Errors
    /// Its directory cannot be watched.
    pub fn of(file: &'a Path) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify")?;
        let directory = file.parent().unwrap_or(file);
        inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO).context(directory.display())?;
        // Read only now, so that a target written in between is not missed.
        let early = read(file);
        Ok(Self { file, inotify, early })
    }

    /// The latest target, bytes, if one has come.
    pub fn next(&mut self) -> Option<u64> {
        let early = self.early.take();
        let events = self.inotify.read_events().unwrap_or_default();
        let ours = events.iter().any(|event| event.name.as_deref() == self.file.file_name());
        if ours { read(self.file) } else { early }
    }
}

/// The last target in bytes. Only the host writes this file; anything but a number is ignored.
pub fn read(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.parse().ok()
}

impl AsFd for MemoryTargets<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_those_that_came() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("memory"), dir.path().join("new"));
        let target = |text: &str, to: &Path| {
            fs::write(&new, text).unwrap();
            fs::rename(&new, to).unwrap();
        };
        target("1", &file);
        let mut memory_targets = MemoryTargets::of(&file).unwrap();
        assert_eq!((memory_targets.next(), memory_targets.next()), (Some(1), None));
        target("2", &file);
        target("3", &file);
        assert_eq!((memory_targets.next(), memory_targets.next()), (Some(3), None));
        target("4", &dir.path().join("other"));
        assert_eq!(memory_targets.next(), None);
        target("much", &file);
        assert_eq!(memory_targets.next(), None);
    }
}
