//! Whether an open file is inside an engine's storage.

use std::fs::read_link;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// The directory of `storage` that contains the open file or directory.
pub fn around(fd: BorrowedFd, storage: &[PathBuf]) -> std::io::Result<Option<PathBuf>> {
    let path = read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(storage.iter().find(|place| path.starts_with(place)).cloned())
}

#[cfg(test)]
mod tests {
    use std::fs::canonicalize;

    use super::*;

    #[test]
    fn what_is_open_is_judged_by_where_it_really_is() {
        let dir = tempfile::tempdir().unwrap();
        let (storage, outside) = (dir.path().join("storage"), dir.path().join("storage-not"));
        for place in [&storage, &outside] {
            std::fs::create_dir_all(place.join("x")).unwrap();
        }
        std::os::unix::fs::symlink(storage.join("x"), outside.join("link")).unwrap();
        let storage = vec![canonicalize(&storage).unwrap()];
        for (path, inside) in [("storage/x", true), ("storage-not/x", false), ("storage-not/link", true)] {
            let file = std::fs::File::open(dir.path().join(path)).unwrap();
            use std::os::fd::AsFd;
            assert_eq!(around(file.as_fd(), &storage).unwrap().is_some(), inside, "{path}");
        }
    }
}
