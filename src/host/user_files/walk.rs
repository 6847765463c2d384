//! Opening a path on the host along no link that an attacker could have laid.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Uid;

use crate::host::is_real_root;

/// Most links followed, as in the kernel.
const MOST_LINKS: usize = 40;
/// Another than the owner may write: group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a path was not opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A user other than root could have made this link.
    Link(PathBuf),
    /// A procfs link does not lead where its text says.
    ProcessLink,
    /// The system's error.
    Os(Errno),
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Self {
        Self::Os(e)
    }
}

/// A directory on the way.
struct Step {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether only root can change the directory and every directory above it.
    trusted: bool,
}

/// Opens the absolute `path` with `flags`. Links are followed only where root alone could have made them: in
/// directories that, from `/` on, belong to root and that no other user can write to.
pub fn open(path: &Path, flags: OFlag) -> Result<OwnedFd, Refusal> {
    let mut walk = Walk { way: vec![root()?], rest: names(path), links: 0, root_is_mapped: !is_real_root() };
    while let Some(name) = walk.rest.pop_front() {
        if let Some(file) = walk.step(&name)? {
            return match walk.rest.is_empty() && !flags.contains(OFlag::O_DIRECTORY) {
                true => Ok(again(&file, flags)?),
                false => Err(Errno::ENOTDIR.into()),
            };
        }
    }
    let last = walk.way.pop().ok_or(Errno::ENOENT)?;
    Ok(if flags.contains(OFlag::O_DIRECTORY) { last.fd } else { again(&last.fd, flags)? })
}

struct Walk {
    /// The directories so far, `/` first.
    way: Vec<Step>,
    /// Names still to come.
    rest: VecDeque<OsString>,
    links: usize,
    /// In a user namespace, root's files look like those of every unmapped user, but no other user can put anything
    /// into `/`.
    root_is_mapped: bool,
}

impl Walk {
    /// Goes into the directory `name` or to where the link of this name leads; returns what is neither.
    fn step(&mut self, name: &OsStr) -> Result<Option<OwnedFd>, Refusal> {
        if name == ".." {
            // The parent of `/` is `/`.
            self.way.truncate(self.way.len().saturating_sub(1).max(1));
            return Ok(None);
        }
        let here = self.way.last().ok_or(Errno::ENOENT)?;
        let found = openat(&here.fd, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let stat = fstat(&found)?;
        let trusted = here.trusted && self.is_roots(&stat, &here.path);
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFLNK if fstatfs(&here.fd)?.filesystem_type() == PROC_SUPER_MAGIC => Err(Refusal::ProcessLink),
            SFlag::S_IFLNK if trusted => self.follow(name).map(|()| None),
            SFlag::S_IFLNK => Err(Refusal::Link(here.path.join(name))),
            SFlag::S_IFDIR => {
                let trusted = trusted && stat.st_mode & WRITABLE_BY_OTHERS == 0;
                self.way.push(Step { fd: found, path: here.path.join(name), trusted });
                Ok(None)
            }
            _ => Ok(Some(found)),
        }
    }

    fn follow(&mut self, name: &OsStr) -> Result<(), Refusal> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let here = self.way.last().ok_or(Errno::ENOENT)?;
        let target = PathBuf::from(readlinkat(&here.fd, name)?);
        if target.is_absolute() {
            self.way.truncate(1);
        }
        let rest = std::mem::replace(&mut self.rest, names(&target));
        self.rest.extend(rest);
        Ok(())
    }

    fn is_roots(&self, stat: &FileStat, dir: &Path) -> bool {
        match self.root_is_mapped {
            false => Uid::from_raw(stat.st_uid).is_root(),
            true => dir == Path::new("/"),
        }
    }
}

/// Opens what is open already, for other uses.
fn again(fd: &OwnedFd, flags: OFlag) -> nix::Result<OwnedFd> {
    open_path(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), flags, Mode::empty())
}

fn root() -> nix::Result<Step> {
    let fd = open_path("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // A user who can write to `/` can do anything anyway.
    Ok(Step { fd, path: "/".into(), trusted: true })
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}
