//! The file that a VM image is taken out to.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crun_qemu::error::{Error, Result, message};
use nix::sys::stat::{self, Mode};
use nix::unistd::mkstemp;

use super::directory;
use super::programs::Programs;

/// A place for a file.
pub struct Outfile<'a> {
    path: &'a Path,
    /// An existing file is replaced.
    replace: bool,
}

impl<'a> Outfile<'a> {
    /// Checks whether a file can be made at `path`.
    ///
    /// # Errors
    /// Something else than a regular file is there, or a file that may not be replaced, or the directory is missing.
    pub fn new(path: &'a Path, replace: bool) -> Result<Self> {
        let outfile = Self { path, replace };
        match fs::symlink_metadata(path) {
            Ok(there) if there.is_dir() => Err(outfile.error("is a directory")),
            Ok(there) if there.is_symlink() => Err(outfile.error("is a symbolic link")),
            Ok(there) if !there.is_file() => Err(outfile.error("not a regular file")),
            Ok(_) if !replace => Err(outfile.exists()),
            Ok(_) => Ok(outfile),
            Err(_) if !directory::parent(path).is_dir() => {
                Err(Error::new(directory::parent(path).display().to_string(), "no such directory"))
            }
            Err(e) if e.kind() != ErrorKind::NotFound => Err(outfile.error(&message(&e))),
            Err(_) => Ok(outfile),
        }
    }

    /// Fills the file with the content of `file`. It appears complete or not at all.
    ///
    /// # Errors
    /// It cannot be written, or appeared since.
    pub fn fill(&self, file: &File, programs: &Programs) -> Result<()> {
        let new = New::beside(self.path).map_err(|e| self.error(&message(&e)))?;
        programs.copy(file, &new.0)?;
        new.settle(self.path, self.replace).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => self.exists(),
            _ => self.error(&message(&e)),
        })
    }

    fn exists(&self) -> Error {
        self.error("exists already").hint("--replace replaces it")
    }

    fn error(&self, why: &str) -> Error {
        Error::new(self.path.display().to_string(), why)
    }
}

/// The umask of this process, which can be read only by changing it.
pub fn umask() -> Mode {
    let mask = stat::umask(Mode::empty());
    stat::umask(mask);
    mask
}

/// A file that is removed with its value unless it is settled.
struct New(PathBuf);

impl New {
    fn beside(path: &Path) -> std::io::Result<Self> {
        let (_, path) = mkstemp(&directory::parent(path).join(".extract.XXXXXX"))?;
        Ok(Self(path))
    }

    fn settle(&self, path: &Path, replace: bool) -> std::io::Result<()> {
        fs::set_permissions(&self.0, Permissions::from_mode(0o666 & !umask().bits()))?;
        if replace { fs::rename(&self.0, path) } else { fs::hard_link(&self.0, path) }
    }
}

impl Drop for New {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("from"), "disk").unwrap();
        let (from, programs) = (File::open(at("from")).unwrap(), Programs::new().unwrap());
        let (new, old) = (at("new"), at("old"));
        Outfile::new(&new, false).unwrap().fill(&from, &programs).unwrap();
        assert_eq!(fs::read(&new).unwrap(), b"disk");
        assert_ne!(fs::metadata(&new).unwrap().permissions().mode() & 0o400, 0);

        // The file appears after the check.
        let outfile = Outfile::new(&old, false).unwrap();
        fs::write(&old, "mine").unwrap();
        let want = format!("{}: exists already (--replace replaces it)", old.display());
        assert_eq!(outfile.fill(&from, &programs).unwrap_err().to_string(), want);
        assert_eq!(fs::read(&old).unwrap(), b"mine");
        Outfile::new(&old, true).unwrap().fill(&from, &programs).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"disk");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn other_places_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        for (name, replace, want) in [
            ("", true, "PATH: is a directory"),
            ("link", true, "PATH: is a symbolic link"),
            ("/dev/null", true, "PATH: not a regular file"),
            ("file", false, "PATH: exists already (--replace replaces it)"),
            ("no/where", false, "PARENT: no such directory"),
            ("file/x", false, "PARENT: no such directory"),
        ] {
            let path = at(name);
            let shown = |path: &Path| path.display().to_string();
            let want = want.replace("PATH", &shown(&path)).replace("PARENT", &shown(path.parent().unwrap()));
            let error = Outfile::new(&path, replace).map(drop).unwrap_err().to_string();
            assert_eq!(error, format!("{want}"));
        }
    }
}
