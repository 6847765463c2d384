//! What of the container's mounts and devices is the guest's.

use crate::image::Format;
use crate::sources::BlockDevice;

/// All of it, each kind in the order of the guest's paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Mounts that the container keeps for the processes around the VM, as indices.
    pub kept: Vec<usize>,
    /// Directories, each a virtiofs of its own.
    pub shares: Vec<Share>,
    /// Single files, all in one virtiofs.
    pub files: Vec<SharedFile>,
    /// What is a tmpfs of the guest's own.
    pub tmpfs: Vec<Tmpfs>,
    /// Disks besides the VM's own.
    pub disks: Vec<Disk>,
}

/// A directory that the guest mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Index of the mount.
    pub mount: usize,
    /// What the guest calls the file system when it mounts it.
    pub tag: String,
    /// Path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
}

/// A file that the guest has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFile {
    /// Index of the mount.
    pub mount: usize,
    /// Path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
    /// The guest gets a copy in its memory, for the owner's eyes alone.
    pub secret: bool,
}

/// A tmpfs of the guest's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Path in the guest.
    pub target: String,
    /// Options of the guest's mount.
    pub options: Vec<String>,
    /// What the image has there is there at first.
    pub copy_up: bool,
}

/// A disk of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What is behind it.
    pub source: DiskSource,
    /// Path in the guest: a link to the disk.
    pub target: String,
    /// How the guest tells it from others.
    pub serial: String,
    /// Its format.
    pub format: Format,
    /// The guest cannot write.
    pub read_only: bool,
}

/// What is behind a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSource {
    /// The file of the mount with this index.
    File(usize),
    /// The block device of the mount with this index.
    Mounted(usize, BlockDevice),
    /// The block device with this index among the container's devices, for which the engine made rules already.
    Device(usize),
}

impl Share {
    /// Where the directory is in the container.
    pub fn path(&self) -> String {
        mounted(self.mount)
    }

    /// Where QEMU finds its virtiofsd.
    pub fn socket(&self) -> String {
        socket(&self.mount.to_string())
    }
}

impl SharedFile {
    /// The directory of all of them in the container.
    pub const DIR: &'static str = "/crun-qemu/files";
    /// What the guest calls the file system with all of them.
    pub const TAG: &'static str = "crun-qemu-files";

    /// Its name in [`SharedFile::DIR`].
    pub fn name(&self) -> String {
        self.mount.to_string()
    }

    /// Where it is in the container.
    pub fn path(&self) -> String {
        format!("{}/{}", Self::DIR, self.name())
    }

    /// Where QEMU finds the virtiofsd of all of them.
    pub fn socket() -> String {
        socket("files")
    }
}

impl Disk {
    /// Where it is in the container.
    pub fn path(&self) -> String {
        match self.source {
            DiskSource::File(mount) | DiskSource::Mounted(mount, _) => mounted(mount),
            DiskSource::Device(index) => device(index),
        }
    }
}

impl Passed {
    /// How many virtiofs the guest has.
    pub fn virtiofs(&self) -> u64 {
        self.shares.len() as u64 + u64::from(!self.files.is_empty())
    }

    /// Whether it has any, for which its memory has to be shared.
    pub fn has_virtiofs(&self) -> bool {
        self.virtiofs() > 0
    }
}

/// Where the mount of this index is moved to.
fn mounted(index: usize) -> String {
    format!("{}/{index}", crate::paths::MOUNTS)
}

/// Where the block device of this index among the container's is made.
pub fn device(index: usize) -> String {
    format!("/dev/crun-qemu/{index}")
}

fn socket(name: &str) -> String {
    format!("{}/{name}", crate::paths::VIRTIOFS)
}
