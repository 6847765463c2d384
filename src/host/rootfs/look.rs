//! Finds the image among the names in a root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::Root;
use crate::engine;
use crate::error::{Context, Error, Result};

const HINT: &str = "the VM image must be the only regular file in / or in /disk/";

/// Files found in the root; bounded, however many names there are.
#[derive(Default)]
struct Seen {
    /// The first two regular files in the order of their names.
    files: Vec<PathBuf>,
    /// The first thing in the image's place that is not an image.
    other: Option<(PathBuf, &'static str)>,
}

/// The path, absolute in the root, of the sole regular file directly in `/` or `/disk/`.
pub(super) fn sole_file(root: &Root) -> Result<PathBuf> {
    let mut seen = Seen::default();
    let disk = seen.look(root, Path::new("/"))?;
    if disk {
        seen.look(root, Path::new("/disk"))?;
    }
    match (seen.files.as_slice(), seen.other) {
        ([file], _) if file.to_str().is_none() => {
            Err(Error::new(file.display().to_string(), "the name of the VM image is not UTF-8").hint("rename it"))
        }
        ([file], _) => Ok(file.clone()),
        ([first, second, ..], _) => {
            let both = format!("{} and {}", first.display(), second.display());
            Err(Error::new(both, "more than one file where the VM image is looked for").hint(HINT))
        }
        ([], Some((path, kind))) => {
            let why = format!("no VM image: this is {kind}, and there is no regular file");
            Err(Error::new(path.display().to_string(), why).hint(HINT))
        }
        ([], None) => Err(Error::new(root.path.display().to_string(), "no VM image in this root").hint(HINT)),
    }
}

impl Seen {
    /// Looks at every name in `dir`; returns whether one of them is `/disk`.
    fn look(&mut self, root: &Root, dir: &Path) -> Result<bool> {
        let mut list = Dir::from_fd(root.open_dir(dir)?).context(dir.display())?;
        let fd = nix::unistd::dup(&list).context(dir.display())?;
        let top = dir == Path::new("/");
        let mut disk = false;
        for entry in list.iter() {
            let entry = entry.context(dir.display())?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = dir.join(OsStr::from_bytes(name));
            let stat = match fstatat(&fd, entry.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(e) => return Err(Error::new(path.display().to_string(), e.desc())),
            };
            match top && name == b"disk" {
                true => disk = self.is_disk_directory(&stat)?,
                false => self.note(path, name, &stat, top),
            }
        }
        Ok(disk)
    }

    /// A `/disk` of another kind is refused rather than skipped: someone put it there on purpose.
    fn is_disk_directory(&mut self, stat: &FileStat) -> Result<bool> {
        match file_kind(stat) {
            SFlag::S_IFDIR => Ok(true),
            SFlag::S_IFREG => {
                self.file(PathBuf::from("/disk"));
                Ok(false)
            }
            kind => Err(Error::new("/disk", format!("{}, not a directory", kind_name(kind))).hint(HINT)),
        }
    }

    fn note(&mut self, path: PathBuf, name: &[u8], stat: &FileStat, top: bool) {
        let kind = file_kind(stat);
        match kind {
            SFlag::S_IFREG if top && stat.st_size == 0 && engine::is_leftover(name) => {}
            SFlag::S_IFREG => self.file(path),
            // Every root file system has directories in `/`, and links such as /bin; neither indicates a mistake.
            SFlag::S_IFDIR if top => {}
            SFlag::S_IFLNK if top && is_system_link(name) => {}
            _ if self.other.as_ref().is_none_or(|(first, _)| path < *first) => {
                self.other = Some((path, kind_name(kind)))
            }
            _ => {}
        }
    }

    fn file(&mut self, path: PathBuf) {
        self.files.push(path);
        self.files.sort();
        self.files.truncate(2);
    }
}

/// Whether a symlink in `/` belongs to a merged-/usr system.
fn is_system_link(name: &[u8]) -> bool {
    name == b"bin" || name == b"sbin" || name.starts_with(b"lib")
}

fn file_kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// A file type in words, with its article.
pub(super) fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFLNK => "a symlink",
        SFlag::S_IFIFO => "a fifo",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFBLK => "a block device",
        SFlag::S_IFCHR => "a character device",
        _ => "of an unknown type",
    }
}
