//! Safe access below an untrusted root: the image is the only file that is ever opened there.
//!
//! The author of the root chose every name, link and file type in it, and may change them at any time. So nothing is
//! resolved by path on the host's side: every open goes through `openat2` from a descriptor of the root and follows no
//! symlink at all, and the opened file is judged by `fstat` on its descriptor, never by an earlier look.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Context, Error, Result};

mod look;
#[cfg(test)]
mod tests;

/// Our directory in a container's own writable layer.
pub const PRIVATE: &str = ".crun-qemu";

/// A container's root directory, held open.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// Path of the root on the host, or another name: for messages about the root itself.
    path: PathBuf,
}

/// The VM image of a root.
#[derive(Debug)]
pub struct Found {
    /// Absolute inside the root: `/x.qcow2` or `/disk/x.qcow2`. UTF-8, since it is recorded in JSON.
    pub path: PathBuf,
    /// The image itself, a regular file that is not empty, open for reading.
    pub file: File,
}

impl Root {
    /// Opens the root directory at `path` on the host. Symlinks on the way there are the caller's and followed.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path, flags, Mode::empty()).context(path.display())?;
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Calls the root by another name in messages about the root itself.
    pub fn called(self, name: &Path) -> Self {
        Self { path: name.to_owned(), ..self }
    }

    /// Finds the VM image: the sole regular file directly in `/` or directly in `/disk/`, one in all.
    ///
    /// # Errors
    /// No such file (names what lies there instead), more than one (names two), a `/disk` that is not a directory, a
    /// file that is empty or cannot be read.
    pub fn find_image(&self) -> Result<Found> {
        let path = look::sole_file(self)?;
        let file = self.open_recorded(&path)?;
        Ok(Found { path, file })
    }

    /// Opens the image at `path`, an earlier [`Found::path`], for reading, under the rules of [`Root::find_image`].
    pub fn open_recorded(&self, path: &Path) -> Result<File> {
        self.open_image(path, OFlag::O_RDONLY)
    }

    /// Opens it for writing as well, if the host's permissions allow it.
    pub fn open_writable(&self, path: &Path) -> Result<File> {
        self.open_image(path, OFlag::O_RDWR)
    }

    fn open_image(&self, path: &Path, access: OFlag) -> Result<File> {
        let refuse = |why: &str| Error::new(path.display().to_string(), why);
        if !is_candidate(path) {
            return Err(refuse("not a file directly in / or /disk/"));
        }
        // O_NONBLOCK: a fifo that has replaced the file must not hang us.
        let fd =
            self.openat2(path, access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).map_err(
                |e| match e {
                    Errno::ELOOP => {
                        refuse("a symlink, not a VM image").hint("symlinks in the image's root are not followed")
                    }
                    Errno::EISDIR => refuse("a directory, not a VM image"),
                    // podman adds its own text to the system's.
                    Errno::EACCES | Errno::EROFS if access == OFlag::O_RDWR => refuse("it may not be written to"),
                    e => refuse(e.desc()),
                },
            )?;
        judged(fd, access, path)
    }

    /// Opens a directory of the root for listing.
    fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.openat2(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).map_err(|e| {
            let why = match e {
                Errno::ENOTDIR | Errno::ELOOP => "not a directory (symlinks are not followed)",
                e => e.desc(),
            };
            Error::new(Path::new("/").join(path).display().to_string(), why)
        })
    }

    fn openat2(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve =
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
        openat2(self.dir.as_fd(), path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
    }
}

/// Opens the file at `path` on the host for reading, under the rules for the image of a root. Symlinks on the way and
/// at its end are the caller's and followed.
///
/// # Errors
/// It cannot be opened, is not a regular file, or is empty.
pub fn open_on_host(path: &Path) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd =
        nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::new(path.display().to_string(), e.desc()))?;
    judged(fd, OFlag::O_RDONLY, path)
}

/// The file, which was opened without blocking, if it can be a VM image.
fn judged(fd: OwnedFd, access: OFlag, path: &Path) -> Result<File> {
    let refuse = |why: &str| Error::new(path.display().to_string(), why);
    let stat = fstat(&fd).context(path.display())?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(refuse(&format!("{}, not a VM image", look::kind_name(kind))));
    }
    if stat.st_size == 0 {
        return Err(refuse("an empty file, not a VM image"));
    }
    fcntl(&fd, FcntlArg::F_SETFL(access)).context(path.display())?;
    Ok(File::from(fd))
}

/// Whether `path` is `/NAME` or `/disk/NAME`.
fn is_candidate(path: &Path) -> bool {
    let parts: Vec<_> = path.components().collect();
    match parts.as_slice() {
        [Component::RootDir, Component::Normal(_)] => true,
        [Component::RootDir, Component::Normal(disk), Component::Normal(_)] => *disk == "disk",
        _ => false,
    }
}
