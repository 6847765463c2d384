//! What `create` hands to the supervisor in the container.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::stages::Stages;

/// Written by the host's side, read once by the supervisor, never read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The libvirt domain, complete.
    pub domain: String,
    /// Print the domain and end.
    #[serde(default)]
    pub print: bool,
    /// Lines for stderr before the VM starts, each complete.
    pub warnings: Vec<String>,
    /// The tap on which the guest asks for its address; `None` with QEMU's own user network.
    pub tap: Option<String>,
    /// The network namespace outlives the VM: what hangs in it is with a keeper at first.
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
    pub stages: Stages,
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
