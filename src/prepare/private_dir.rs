//! `<bundle>/crun-qemu`: what is ours on the host's side, for one container.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

use super::label;
use crate::error::{Context, Error, Result};
use crate::plan::User;

/// No file that is read back is larger, bytes: the record of an image is a path and a word.
const LARGEST: u64 = 64 << 10;

/// Our directory in a bundle or a layer, which an earlier start of the container may have made.
///
/// A directory made by [`PrivateDir::make`] is removed again when this is dropped before [`PrivateDir::commit`].
pub struct PrivateDir {
    path: PathBuf,
    owner: Option<(Uid, Gid)>,
    /// SELinux label of the container's files.
    label: Option<String>,
    /// Whether an earlier start made the directory.
    exists: bool,
    /// Whether to remove everything on drop.
    uncommitted: bool,
}

impl PrivateDir {
    /// Finds `path`, which need not exist, and makes nothing. Its owner is the container's root: `mapped_root` are the
    /// host's ids of that root where the container has a user namespace.
    pub fn find(path: PathBuf, mapped_root: Option<(u32, u32)>) -> Result<Self> {
        let owner = mapped_root
            .map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid)))
            .filter(|(uid, gid)| (*uid, *gid) != (Uid::effective(), Gid::effective()));
        // An image may bring a link of this name.
        let exists = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => true,
            Ok(_) => return Err(Error::new(path.display().to_string(), "not a directory")),
            Err(_) => false,
        };
        Ok(Self { path, owner, label: None, exists, uncommitted: false })
    }

    /// The same, with this SELinux label for the directory and for everything made in it.
    pub fn labelled(mut self, label: Option<&str>) -> Self {
        self.label = label.map(str::to_string);
        self
    }

    /// Makes the directory unless it exists, and sets its owner and label.
    pub fn make(&mut self) -> Result<()> {
        if !self.exists {
            DirBuilder::new().mode(0o700).create(&self.path).context(self.path.display())?;
            self.uncommitted = true;
        }
        self.give(&self.path)
    }

    /// Finds or makes `path`.
    pub fn open(path: PathBuf, mapped_root: Option<(u32, u32)>) -> Result<Self> {
        let mut dir = Self::find(path, mapped_root)?;
        dir.make()?;
        Ok(dir)
    }

    /// Whether this is the container's first start.
    pub fn is_new(&self) -> bool {
        !self.exists
    }

    /// Path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps what was made.
    pub fn commit(mut self) {
        self.uncommitted = false;
    }

    /// Gives `path`, which is in this directory, to the container's root.
    pub fn give(&self, path: &Path) -> Result<()> {
        self.mark(path)?;
        match self.owner {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).context(path.display()),
            None => Ok(()),
        }
    }

    fn mark(&self, path: &Path) -> Result<()> {
        self.label.as_deref().map_or(Ok(()), |label| label::set(path, label))
    }

    /// Makes a directory below this one that others may enter.
    pub fn make_dir(&self, name: &str) -> Result<()> {
        let path = self.join(name);
        DirBuilder::new().mode(0o755).recursive(true).create(&path).context(path.display())?;
        path.ancestors().take_while(|dir| *dir != self.path).try_for_each(|dir| self.mark(dir))
    }

    /// Makes a directory below this one that only the container's root may enter.
    pub fn make_closed_dir(&self, name: &str) -> Result<()> {
        self.make_dir(name)?;
        let path = self.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o700)).context(path.display())?;
        self.give(&path)
    }

    /// Lets `user`, as whom QEMU runs, read the file `path`, which is in this directory, or `write` it too.
    pub fn let_in(&self, path: &Path, user: Option<&User>, write: bool) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        let gid = Gid::from_raw(user.outside_gid);
        chown(path, None, Some(gid)).context(path.display())?;
        let mode = if write { 0o660 } else { 0o640 };
        fs::set_permissions(path, Permissions::from_mode(mode)).context(path.display())
    }

    /// Opens one of our files with `options` if it exists. Only a regular file: an image may contain anything under
    /// this name, and opening a device can have effects.
    pub fn open_file(&self, name: &str, options: &mut OpenOptions) -> Result<Option<File>> {
        let path = self.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(Error::new(path.display().to_string(), "not a regular file")),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(path.display()),
        }
        let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        opened.map(Some).context(path.display())
    }

    /// Reads one of our files if it exists.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(name, OpenOptions::new().read(true))? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(LARGEST).read_to_end(&mut content).context(self.join(name).display())?;
        Ok(Some(content))
    }

    /// Writes a file in one step, so that a reader sees the old content or the new.
    pub fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<PathBuf> {
        self.write_then(name, mode, content, |_| Ok(()))
    }

    /// The same for a file that later starts depend on: a power cut must not leave an empty file.
    pub fn write_durably(&self, name: &str, mode: u32, content: &[u8]) -> Result<PathBuf> {
        self.write_then(name, mode, content, File::sync_all)
    }

    fn write_then(
        &self,
        name: &str,
        mode: u32,
        content: &[u8],
        then: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let path = self.join(name);
        let temporary = self.join(&format!("{name}.new"));
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary);
        written.and_then(|mut file| file.write_all(content).and_then(|()| then(&file))).context(path.display())?;
        self.give(&temporary)?;
        fs::rename(&temporary, &path).context(path.display())?;
        Ok(path)
    }

    /// Removes one of our files if it exists.
    pub fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context(self.join(name).display()),
            _ => Ok(()),
        }
    }

    /// Makes a symbolic link unless it is there.
    pub fn link(&self, name: &str, target: &Path) -> Result<()> {
        match symlink(target, self.join(name)) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.context(self.join(name).display()),
        }?;
        self.mark(&self.join(name))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if self.uncommitted {
            // The error that led here is the one to report.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_one_is_removed_unless_kept_and_an_old_one_never() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        let open = || PrivateDir::open(path.clone(), None).unwrap();
        drop(open());
        assert!(!path.exists());
        let dir = open();
        dir.write("f", 0o600, b"x").unwrap();
        dir.commit();
        drop(open());
        assert_eq!(fs::read(path.join("f")).unwrap(), b"x");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }

    /// Without SELinux, too, root can write labels.
    #[test]
    fn all_that_is_made_carries_the_label() {
        const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        let mut dir = PrivateDir::find(path.clone(), None).unwrap().labelled(Some(LABEL));
        dir.make().unwrap();
        dir.make_dir("a/b").unwrap();
        dir.write("a/f", 0o600, b"x").unwrap();
        dir.link("a/l", Path::new("f")).unwrap();
        fs::write(dir.join("given"), "x").unwrap();
        dir.give(&dir.join("given")).unwrap();
        for name in ["", "a", "a/b", "a/f", "a/l", "given"] {
            assert_eq!(label::of(&dir.join(name)).as_deref(), Some(LABEL), "{name}");
        }
        assert_eq!(label::of(parent.path()), None);
        // Without a label nothing is touched.
        let mut dir = PrivateDir::find(parent.path().join("e"), None).unwrap().labelled(None);
        dir.make().unwrap();
        dir.write("f", 0o600, b"x").unwrap();
        assert_eq!(label::of(&dir.join("f")), None);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let parent = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(parent.path().join("d"), None).unwrap();
        fs::create_dir(dir.join("dir")).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/etc/passwd", dir.join("link")).unwrap();
        let open = |name| dir.open_file(name, OpenOptions::new().read(true));
        for name in ["dir", "fifo", "link"] {
            let message = open(name).unwrap_err().to_string();
            assert_eq!(message, format!("{}: not a regular file", dir.join(name).display()));
        }
        assert!(open("nothing").unwrap().is_none());
    }

    #[test]
    fn links_that_an_image_brings_are_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        fs::write(&victim, "old").unwrap();
        symlink(parent.path(), parent.path().join("dir")).unwrap();
        assert!(PrivateDir::open(parent.path().join("dir"), None).is_err());
        let dir = PrivateDir::open(parent.path().join("real"), None).unwrap();
        for name in ["f", "f.new"] {
            symlink(&victim, dir.join(name)).unwrap();
        }
        assert!(dir.read("f").is_err());
        nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(
            dir.open_file("fifo", OpenOptions::new().read(true))
                .unwrap_err()
                .to_string()
                .ends_with("/fifo: not a regular file")
        );
        dir.write("f", 0o600, b"new").unwrap();
        assert_eq!(
            (fs::read_to_string(&victim).unwrap().as_str(), dir.read("f").unwrap().unwrap().as_slice()),
            ("old", &b"new"[..])
        );
    }
}
