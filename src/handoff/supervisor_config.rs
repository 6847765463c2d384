//! What `create` hands to the supervisor in the container.

use std::fs::{self, File, Metadata};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::handoff::timings::StartTimings;

/// Written by the host's side, read once by the supervisor, never read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorConfig {
    /// The libvirt domain, complete.
    pub domain: String,
    /// Print the domain and end.
    #[serde(default)]
    pub print: bool,
    /// Warnings for stderr before the VM starts.
    pub warnings: Vec<Error>,
    /// The tap on which the guest asks for its address; `None` with QEMU's own user network.
    pub tap: Option<String>,
    /// The network namespace outlives the VM: what hangs in it is with an fd store at first.
    #[serde(default)]
    pub shared: bool,
    /// With QEMU's own user network: where QEMU listens for the guest's sshd.
    #[serde(default)]
    pub ssh: Option<SocketAddr>,
    /// Directories to be served as virtiofs, each by a process of its own.
    #[serde(default)]
    pub virtiofs: Vec<Virtiofs>,
    /// The environment in the container's configuration: what an exec brings beyond it was asked for with the exec.
    #[serde(default)]
    pub env: Vec<String>,
    /// The working directory in the container's configuration: an exec that brings this one was asked for none.
    #[serde(default)]
    pub cwd: PathBuf,
    /// Seconds that an exec waits for the guest's sshd; `None` for the default.
    #[serde(default)]
    pub exec_timeout: Option<u64>,
    /// Files that must be those that were looked at.
    #[serde(default)]
    pub judged: Vec<Judged>,
    /// The signal that the container's configuration calls its stop signal.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// As whom QEMU runs; `None`: root.
    #[serde(default)]
    pub user: Option<Ids>,
    /// QEMU listens on a port below 1024.
    #[serde(default)]
    pub low_port: bool,
    /// What QEMU is handed open, and has no need to open itself.
    #[serde(default)]
    pub files: Vec<OpenFile>,
    /// The start so far.
    #[serde(default)]
    pub stages: StartTimings,
}

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A file behind a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// Where it is; the domain calls the descriptor by the same name.
    pub path: PathBuf,
    /// QEMU does not write to it.
    pub read_only: bool,
}

/// A directory of the container's that the guest mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtiofs {
    /// The directory.
    pub dir: PathBuf,
    /// Where QEMU connects.
    pub socket: PathBuf,
    /// What the user calls it: the path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
}

/// A file that was looked at by a descriptor, and then mounted by its path: whoever may write to a directory on the way can
/// have put another, or a link, in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// What the user calls it.
    name: String,
    /// Where it is in the container.
    path: PathBuf,
    /// Device and inode, which are the same through every mount of a file system.
    identity: (u64, u64),
}

impl Judged {
    /// The file that was looked at, which comes to `path` in the container.
    pub fn new(name: &str, path: &str, file: &File) -> Result<Self> {
        let identity = identity(&file.metadata().context(name)?);
        Ok(Self { name: name.to_owned(), path: path.into(), identity })
    }

    /// To be called in the container, where nothing can be put in its place any more.
    ///
    /// # Errors
    /// It is another file.
    pub fn check(&self) -> Result<()> {
        let now = fs::symlink_metadata(&self.path).context(&self.name)?;
        if identity(&now) == self.identity {
            return Ok(());
        }
        let why = "another file was put in its place while the container was made";
        Err(Error::new(&self.name, why).hint("start it again when no other process changes the directory"))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_not_the_one_that_was_judged() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("image"), "1").unwrap();
        let judged = Judged::new("/x.img", at("image").to_str().unwrap(), &File::open(at("image")).unwrap()).unwrap();
        assert_eq!(judged.check(), Ok(()));
        fs::write(at("image"), "22").unwrap();
        assert_eq!(judged.check(), Ok(()), "what is in it is another matter");
        let line = "/x.img: another file was put in its place while the container was made \
                    (start it again when no other process changes the directory)";
        let refused = || assert_eq!(judged.check().unwrap_err().to_string(), line);
        fs::rename(at("image"), at("old")).unwrap();
        fs::copy(at("old"), at("image")).unwrap();
        refused();
        fs::remove_file(at("image")).unwrap();
        std::os::unix::fs::symlink(at("old"), at("image")).unwrap();
        refused();
        fs::remove_file(at("image")).unwrap();
        assert!(judged.check().unwrap_err().to_string().starts_with("/x.img: No such file"));
    }
}
