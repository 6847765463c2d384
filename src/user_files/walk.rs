//! Opening a path on the host along no link that an attacker could have laid.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open as open_path, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Uid;

/// As many links as the kernel itself follows.
const MOST_LINKS: usize = 40;
/// Another than the owner may write: group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a path was not opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This link could be somebody's other than root's.
    Link(PathBuf),
    /// A link of procfs leads out of what its text says.
    ProcessLink,
    /// As the system says.
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
    /// Whether root alone can change what is in it and in every directory before it.
    trusted: bool,
}

/// Opens the absolute `path` with `flags`. Links are followed where root alone could have made them, and nowhere else:
/// in directories that, from `/` on, are root's and writable by nobody else.
pub fn open(path: &Path, flags: OFlag) -> Result<OwnedFd, Refusal> {
    let root_is_mapped = in_user_namespace();
    // In a user namespace root's files look like those of every user without a mapping, except that nobody else puts
    // anything into `/`.
    let is_roots = |stat: &FileStat, dir: &Path| match root_is_mapped {
        false => Uid::from_raw(stat.st_uid).is_root(),
        true => dir == Path::new("/"),
    };
    let mut way = vec![root()?];
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            // The parent of `/` is `/`.
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let here = way.last().ok_or(Errno::ENOENT)?;
        let found = at(here.fd.as_fd(), &name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let stat = fstat(&found)?;
        if kind(&stat) == SFlag::S_IFLNK {
            if fstatfs(&here.fd)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Refusal::ProcessLink);
            }
            if !here.trusted || !is_roots(&stat, &here.path) {
                return Err(Refusal::Link(here.path.join(&name)));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = PathBuf::from(readlinkat(&here.fd, name.as_os_str())?);
            if target.is_absolute() {
                way.truncate(1);
            }
            let mut front = names(&target);
            front.append(&mut rest);
            rest = front;
            continue;
        }
        if rest.is_empty() && !flags.contains(OFlag::O_DIRECTORY) {
            return Ok(again(&found, flags)?);
        }
        if kind(&stat) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        let trusted = here.trusted && is_roots(&stat, &here.path) && stat.st_mode & WRITABLE_BY_OTHERS == 0;
        way.push(Step { fd: found, path: here.path.join(&name), trusted });
    }
    let last = way.pop().ok_or(Errno::ENOENT)?;
    Ok(if flags.contains(OFlag::O_DIRECTORY) { last.fd } else { again(&last.fd, flags)? })
}

/// Opens what is open already, for other uses.
fn again(fd: &OwnedFd, flags: OFlag) -> nix::Result<OwnedFd> {
    open_path(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str(), flags, Mode::empty())
}

fn root() -> nix::Result<Step> {
    let fd = open_path("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let trusted = fstat(&fd)?.st_mode & WRITABLE_BY_OTHERS == 0;
    Ok(Step { fd, path: "/".into(), trusted })
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn at(dir: BorrowedFd, name: &OsString, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // A name of one component can only lead out of `dir` by a link, which O_NOFOLLOW keeps from being followed.
    openat2(dir, name.as_os_str(), how)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether uid 0 is another user's in truth, as it is for rootless engines.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}
