//! Private directories that go with their values.

use std::fs;
use std::path::{Path, PathBuf};

use crun_qemu::error::{Context, Result};
use nix::unistd::mkdtemp;

/// Parent of the directory if it cannot be made beside the image.
const ELSEWHERE: &str = "/var/tmp";

/// A new directory that no other user may enter.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one below `parent`, with a name that begins with `prefix`.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn below(parent: &Path, prefix: &str) -> Result<Self> {
        let template = parent.join(format!("{prefix}.XXXXXX"));
        mkdtemp(&template).map(Self).context(template.display())
    }

    /// Makes one beside the file at `path`, else in `/var/tmp`.
    ///
    /// # Errors
    /// Neither is possible.
    pub fn beside(path: &Path, prefix: &str) -> Result<Self> {
        Self::below(parent(path), prefix).or_else(|_| Self::below(Path::new(ELSEWHERE), prefix))
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The directory that `path` is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_goes_with_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let made = Directory::beside(&dir.path().join("x"), ".package").unwrap();
        assert_eq!(made.path().parent(), Some(dir.path()));
        assert_eq!(fs::metadata(made.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(made.path().join("y"), "").unwrap();
        drop(made);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let elsewhere = Directory::beside(Path::new("/proc/x"), "crun-qemu-test").unwrap();
        assert_eq!(elsewhere.path().parent(), Some(Path::new(ELSEWHERE)));
    }

    #[test]
    fn parents() {
        for (path, want) in [("x", "."), ("a/x", "a"), ("/x", "/"), ("./x", ".")] {
            assert_eq!(parent(Path::new(path)), Path::new(want));
        }
    }
}
