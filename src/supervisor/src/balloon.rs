//! The wishes for the guest's memory, which come from the host's side while the VM runs.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crun_qemu::error::{Context, Result};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Watches for a file that is replaced with each wish; readable when there is a new one.
pub struct Wishes<'a> {
    file: &'a Path,
    inotify: Inotify,
    /// One that came before anybody looked out for it.
    early: Option<u64>,
}

impl<'a> Wishes<'a> {
    /// Looks out for `file` from now on.
    ///
    /// # Errors
    /// Its directory cannot be watched.
    pub fn of(file: &'a Path) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify")?;
        let directory = file.parent().unwrap_or(file);
        inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO).context(directory.display())?;
        // Only now, lest one that comes meanwhile be missed.
        let early = read(file);
        Ok(Self { file, inotify, early })
    }

    /// The latest wish, bytes, if one has come.
    pub fn next(&mut self) -> Option<u64> {
        let early = self.early.take();
        let events = self.inotify.read_events().unwrap_or_default();
        let ours = events.iter().any(|event| event.name.as_deref() == self.file.file_name());
        if ours { read(self.file) } else { early }
    }
}

/// The last wish, bytes. Whoever writes it is the host: what is no number is none of its.
pub fn read(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.parse().ok()
}

impl AsFd for Wishes<'_> {
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
        let wish = |text: &str, to: &Path| {
            fs::write(&new, text).unwrap();
            fs::rename(&new, to).unwrap();
        };
        wish("1", &file);
        let mut wishes = Wishes::of(&file).unwrap();
        assert_eq!((wishes.next(), wishes.next()), (Some(1), None));
        wish("2", &file);
        wish("3", &file);
        assert_eq!((wishes.next(), wishes.next()), (Some(3), None));
        wish("4", &dir.path().join("other"));
        assert_eq!(wishes.next(), None);
        wish("much", &file);
        assert_eq!(wishes.next(), None);
    }
}
