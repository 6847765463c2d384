//! What is changed in an OCI configuration to run a VM in place of the container's process.
//!
//! One list, two appliers: [`crate::crun`] writes it into crun's structs, the runtime executable into `config.json`.

use std::path::PathBuf;

/// All changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edits {
    /// The new root directory; it is mounted read-only.
    pub root: PathBuf,
    /// The container's process, an absolute path in the new root first.
    pub args: Vec<String>,
    /// The complete new list of mounts, in order.
    pub mounts: Vec<MountEdit>,
    /// Character devices that the container may use besides those allowed already.
    pub devices: Vec<CharDevice>,
}

/// One entry of the new list of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountEdit {
    /// The entry of this index in the old list, as it is.
    Keep(usize),
    /// The entry of this index in the old list, at another place and with options added.
    Move {
        /// Index in the old list.
        index: usize,
        /// New destination.
        destination: String,
        /// Options appended to its own.
        options: Vec<String>,
    },
    /// A new entry.
    Add(Mount),
}

/// A mount as the OCI runtime specification has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path in the container.
    pub destination: String,
    /// `bind`, `tmpfs`, …
    pub kind: String,
    /// Host path or name of the file system.
    pub source: String,
    /// Mount options.
    pub options: Vec<String>,
}

/// A character device, allowed for reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CharDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
}
