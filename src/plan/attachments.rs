//! What of the container's mounts and devices is the guest's.

use crate::handoff::paths;
use crate::host::image::Format;
use crate::host::mount_sources::{BlockDevice, Node};

/// All of it, each kind in the order of the guest's paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Mounts that the container keeps for the processes around the VM, as indices.
    pub kept: Vec<usize>,
    /// Files of the engine's for the container, as indices with their paths, which the container only reads.
    pub engine_files: Vec<(usize, String)>,
    /// Directories, each a virtiofs of its own.
    pub shares: Vec<Share>,
    /// Single files, all in one virtiofs.
    pub files: Vec<SharedFile>,
    /// What is a tmpfs of the guest's own.
    pub tmpfs: Vec<Tmpfs>,
    /// Disks besides the VM's own.
    pub disks: Vec<Disk>,
}

/// Options of a container's mount that say what its programs may do with files, and so the guest's.
pub const FLAGS: [&str; 3] = ["noexec", "nosuid", "nodev"];

/// A directory that the guest mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its place among the shares, the same on every start: engines write mounts in another order each time.
    pub number: usize,
    /// Index of the mount.
    pub mount: usize,
    /// Path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
    /// Of [`FLAGS`] those that hold in the guest too.
    pub flags: Vec<&'static str>,
}

/// A file that the guest has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFile {
    /// Its place among the files, the same on every start: an Ignition guest is told on its first boot alone.
    pub number: usize,
    /// Index of the mount.
    pub mount: usize,
    /// Path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
    /// Of [`FLAGS`] those that hold in the guest too.
    pub flags: Vec<&'static str>,
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
    /// Its place among the disks, the same on every start.
    pub number: usize,
    /// What is behind it.
    pub source: DiskSource,
    /// Path in the guest: a link to the disk.
    pub target: String,
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
    Device(usize, BlockDevice),
}

impl DiskSource {
    /// Who may open it, where it is a device.
    pub fn node(&self) -> Option<Node> {
        match self {
            Self::File(_) => None,
            Self::Mounted(_, device) | Self::Device(_, device) => Some(device.node),
        }
    }
}

/// virtiofs takes no longer tag, in bytes.
const LONGEST_TAG: usize = 36;

impl Share {
    /// What the guest calls the file system when it mounts it: its path, where that is not too long and can be written
    /// in XML.
    pub fn tag(&self) -> String {
        let odd = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        match self.target.len() <= LONGEST_TAG && !self.target.contains(odd) {
            true => self.target.clone(),
            false => format!("virtiofs-{}", self.number),
        }
    }

    /// Where the directory is in the container.
    pub fn path(&self) -> String {
        format!("{}/share-{}", paths::MOUNTS, self.number)
    }

    /// Where QEMU finds its virtiofsd.
    pub fn socket(&self) -> String {
        socket(&self.number.to_string())
    }
}

impl SharedFile {
    /// The directory of all of them in the container.
    pub const DIR: &'static str = "/crun-qemu/mounts/files";
    /// What the guest calls the file system with all of them.
    pub const TAG: &'static str = "crun-qemu-files";

    /// Its name in [`SharedFile::DIR`].
    pub fn name(&self) -> String {
        self.number.to_string()
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
    /// How the guest tells it from others.
    pub fn serial(&self) -> String {
        format!("crun-qemu-{}", self.number)
    }

    /// Where it is in the container.
    pub fn path(&self) -> String {
        match self.source {
            DiskSource::File(_) => format!("{}/disk-{}", paths::MOUNTS, self.number),
            DiskSource::Mounted(..) => format!("{}/{}", paths::DISKS, self.number),
            DiskSource::Device(..) => format!("/dev/crun-qemu/{}", self.number),
        }
    }
}

impl Attachments {
    /// How many virtiofs the guest has.
    pub fn virtiofs(&self) -> u64 {
        self.shares.len() as u64 + u64::from(!self.files.is_empty())
    }

    /// Whether it has any, for which its memory has to be shared.
    pub fn has_virtiofs(&self) -> bool {
        self.virtiofs() > 0
    }
}

fn socket(name: &str) -> String {
    format!("{}/{name}", paths::VIRTIOFS)
}
