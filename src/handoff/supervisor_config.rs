//! The supervisor's configuration.

use std::fs::{self, File, Metadata};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::handoff::paths;
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
    /// With QEMU's user network, the address on which QEMU listens for the guest's sshd.
    #[serde(default)]
    pub ssh: Option<SocketAddr>,
    /// Directories to serve as virtiofs, each by its own process.
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
    /// User of QEMU; `None`: root.
    #[serde(default)]
    pub user: Option<Ids>,
    /// QEMU listens on a port below 1024.
    #[serde(default)]
    pub low_port: bool,
    /// Files that QEMU gets open, and may not open itself.
    #[serde(default)]
    pub files: Vec<OpenFile>,
    /// The start so far.
    #[serde(default)]
    pub stages: StartTimings,
}

impl SupervisorConfig {
    /// Reads the configuration in the container.
    ///
    /// # Errors
    /// The file is missing or was written by another build.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(paths::SUPERVISOR_CONFIG).context(paths::SUPERVISOR_CONFIG)?;
        serde_json::from_str(&text).context(paths::SUPERVISOR_CONFIG)
    }
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
    /// Path in the container; the domain uses it as the name of the descriptor.
    pub path: PathBuf,
    /// QEMU does not write to it.
    pub read_only: bool,
}

/// A directory of the container that the guest mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtiofs {
    /// The directory.
    pub dir: PathBuf,
    /// Socket of its virtiofsd.
    pub socket: PathBuf,
    /// Path in the guest, which is the user's name for it.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
}

/// A file that was judged by a descriptor and is mounted by its path: a process that may write to a directory of the
/// path could replace the file in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The user's name for the file.
    name: String,
    /// Path in the container.
    path: PathBuf,
    /// Device and inode, which are the same through every mount of a file system.
    identity: (u64, u64),
}

impl Judged {
    /// Remembers the identity of a judged file that is mounted at `path` in the container.
    pub fn new(name: &str, path: &str, file: &File) -> Result<Self> {
        let identity = identity(&file.metadata().context(name)?);
        Ok(Self { name: name.to_owned(), path: path.into(), identity })
    }

    /// Compares the identity. To be called in the container, where the file can no longer be replaced.
    ///
    /// # Errors
    /// The file is another one.
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
