//! The files that options name: which of them may be read, and reading them.
//!
//! Options do not come from the user alone: an image's author writes its ENTRYPOINT, CMD and annotations, a pod's
//! author the pod's. So a path is looked up among the container's mounts first and read from what the engine granted
//! there. A path on the host itself needs an argument outside a pod, or the policy's permission.

mod storage;
mod walk;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use oci_spec::runtime::Mount;

use crate::engine;
use crate::engine::mounts::is_bind;
use crate::error::{Context, Error, Result};
use crate::host::policy::Policy;
use crate::request::Request;

/// A first boot needs no more; cloud-init takes far less from most clouds.
const LARGEST: u64 = 16 << 20;
/// No link is followed below the path that the user named.
const NO_LINKS: ResolveFlag =
    ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS).union(ResolveFlag::RESOLVE_NO_MAGICLINKS);
/// O_NONBLOCK: opening a fifo must not wait for its other end. O_NOCTTY: a terminal must not become ours.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Opens the files that the options of one container name.
pub struct UserFiles<'a> {
    request: &'a Request,
    /// Directories in which engines keep what images and containers wrote.
    storage: Vec<PathBuf>,
}

/// A directory that an option names, held open.
pub struct Directory {
    fd: OwnedFd,
    /// The option and the path, for errors.
    name: String,
}

impl<'a> UserFiles<'a> {
    /// User files for the container in `bundle`, whose root is at `rootfs`.
    pub fn new(request: &'a Request, bundle: &Path, rootfs: &Path) -> Self {
        Self { request, storage: engine::storage::places(bundle, rootfs, crate::host::policy::home().as_deref()) }
    }

    /// Opens the directory that `--OPTION` names.
    ///
    /// # Errors
    /// When it is relative, not a directory, or may not be read (see the module).
    pub fn directory(&self, option: &str, path: &Path) -> Result<Directory> {
        let name = format!("--{option} {}", path.display());
        let fd = self.open(option, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)?;
        Ok(Directory { fd, name })
    }

    /// Reads the file that `--OPTION` names.
    ///
    /// # Errors
    /// When it is relative, not a regular file, larger than 16 MiB, or may not be read (see the module).
    pub fn file(&self, option: &str, path: &Path) -> Result<Vec<u8>> {
        read(self.open(option, path, READ)?, &format!("--{option} {}", path.display()))
    }

    fn open(&self, option: &str, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        let what = || format!("--{option} {}", path.display());
        if !path.is_absolute() {
            // Engines start a runtime in the bundle.
            let why = "a relative path, and the engine does not pass on the working directory";
            return Err(Error::new(what(), why).hint("give an absolute path"));
        }
        if let Some((mount, below)) = granted(&self.request.mounts, path) {
            return open_granted(mount, &below, flags).map_err(|e| refused(what(), e, flags));
        }
        self.may_name_host_paths(option, path)?;
        let fd = walk::open(path, flags).map_err(|e| match e {
            walk::Refusal::Os(e) => refused(what(), e, flags),
            walk::Refusal::Link(link) => {
                let why = format!("{} is a symbolic link that others than root could have made", link.display());
                Error::new(what(), why).hint("name the place to which it leads")
            }
            walk::Refusal::ProcessLink => {
                Error::new(what(), "it leads through a link of /proc's own, by which an image could name host files")
            }
        })?;
        match storage::around(fd.as_fd(), &self.storage).context(what())? {
            Some(storage) => {
                let why = format!("it is inside {}, where an engine keeps what images brought", storage.display());
                Err(Error::new(what(), why).hint("mount it with -v and name it as the container sees it"))
            }
            None => Ok(fd),
        }
    }

    fn may_name_host_paths(&self, option: &str, path: &Path) -> Result<()> {
        let who = if self.request.in_pod {
            "a pod's container"
        } else if self.request.options.is_annotation(option) {
            "an annotation"
        } else {
            return Ok(());
        };
        Policy::read()?.host_paths().map_err(|denial| {
            let by = denial.by.map(|file| format!(" ({})", file.display())).unwrap_or_default();
            let why = format!("no mount of the container has it, and {who} may not name a path on the host{by}");
            Error::new(format!("--{option} {}", path.display()), why)
                .hint(format!("mount it with -v at that path; {} permits it", denial.remedy))
        })
    }
}

impl Directory {
    /// The option and the path, for errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a file of the directory if it is there.
    ///
    /// # Errors
    /// When it is not a regular file, larger than 16 MiB, or cannot be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let what = format!("{}/{file}", self.name);
        match openat2(&self.fd, file, OpenHow::new().flags(READ).resolve(NO_LINKS)) {
            Ok(fd) => read(fd, &what).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(refused(what, e, READ)),
        }
    }
}

fn read(fd: OwnedFd, what: &str) -> Result<Vec<u8>> {
    let file = File::from(fd);
    if !file.metadata().context(what)?.is_file() {
        return Err(Error::new(what, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).context(what)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(Error::new(what, "larger than 16 MiB")),
        false => Ok(bytes),
    }
}

/// The mount that the container sees at `path`, if it is one of something that the engine granted, and the rest of the
/// path below it. Pure.
fn granted<'m>(mounts: &'m [Mount], path: &Path) -> Option<(&'m Mount, PathBuf)> {
    let path = normal(path);
    // A later mount hides what an earlier one has at the same place.
    let mount = mounts.iter().rfind(|mount| path.starts_with(normal(mount.destination())))?;
    let below = path.strip_prefix(normal(mount.destination())).ok()?.to_owned();
    is_bind(mount).then_some((mount, below))
}

/// An absolute path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut path, part| {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
        path
    })
}

/// The way to the mount's source is the engine's, which follows links there as the container's runtime will.
fn open_granted(mount: &Mount, below: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let source = mount.source().as_deref().ok_or(Errno::ENOENT)?;
    if below.as_os_str().is_empty() {
        return openat2(AT_FDCWD, source, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS));
    }
    let source = open(source, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let whole = mount.options().iter().flatten().any(|option| option == "rbind");
    // Mounts below a source reach the container only with "rbind".
    let resolve = if whole { NO_LINKS } else { NO_LINKS | ResolveFlag::RESOLVE_NO_XDEV };
    openat2(source, below, OpenHow::new().flags(flags).resolve(resolve))
}

/// The system's refusal in words; podman takes the system's own for "not there" as "a command that was not found".
fn refused(what: String, e: Errno, flags: OFlag) -> Error {
    let directory = flags.contains(OFlag::O_DIRECTORY);
    match e {
        Errno::ENOENT if directory => Error::new(what, "no such directory"),
        Errno::ENOENT => Error::new(what, "no such file"),
        Errno::ENOTDIR if directory => Error::new(what, "not a directory"),
        Errno::ELOOP => Error::new(what, "a symbolic link is in it, and none is followed there"),
        Errno::ENXIO => Error::new(what, "not a regular file"),
        e => Error::new(what, e.desc()),
    }
}

#[cfg(test)]
mod tests;
