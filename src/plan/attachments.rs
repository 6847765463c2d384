//! The container's mounts and devices that the guest gets.

use crate::handoff::paths;
use crate::host::image::Format;
use crate::host::mount_sources::{BlockDevice, Node};

/// All attachments, each kind sorted by path in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Mounts that the container keeps for the processes around the VM, as indices.
    pub kept: Vec<usize>,
    /// Files that the engine made for the container, as indices of mounts with their paths; the container only reads
    /// them.
    pub engine_files: Vec<(usize, String)>,
    /// Directories, each a separate virtiofs.
    pub shares: Vec<Share>,
    /// Single files, all in one virtiofs.
    pub files: Vec<SharedFile>,
    /// tmpfs file systems in the guest.
    pub tmpfs: Vec<Tmpfs>,
    /// Disks in addition to the boot disk.
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
    /// The mount options of [`FLAGS`] that also hold in the guest.
    pub flags: Vec<&'static str>,
}

/// A file that the guest has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFile {
    /// Index among the files, the same on every start: an Ignition guest is configured on its first boot only.
    pub number: usize,
    /// Index of the mount.
    pub mount: usize,
    /// Path in the guest.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
    /// The mount options of [`FLAGS`] that also hold in the guest.
    pub flags: Vec<&'static str>,
    /// The guest gets a copy in its memory, for the owner's eyes alone.
    pub secret: bool,
}

/// A tmpfs in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Path in the guest.
    pub target: String,
    /// Mount options in the guest.
    pub options: Vec<String>,
    /// The tmpfs starts with the image's files at that path.
    pub copy_up: bool,
}

/// A disk in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its place among the disks, the same on every start.
    pub number: usize,
    /// The file or device behind the disk.
    pub source: DiskSource,
    /// Path in the guest: a link to the disk.
    pub target: String,
    /// Its format.
    pub format: Format,
    /// The guest cannot write.
    pub read_only: bool,
}

/// The file or device behind a disk.
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
    /// Owner and mode of the device node; `None` for a file.
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
    /// Tag of the virtiofs: the path in the guest if that is short enough and can be written in XML.
    pub fn tag(&self) -> String {
        let odd = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        match self.target.len() <= LONGEST_TAG && !self.target.contains(odd) {
            true => self.target.clone(),
            false => format!("virtiofs-{}", self.number),
        }
    }

    /// Path of the directory in the container.
    pub fn path(&self) -> String {
        format!("{}/share-{}", paths::MOUNTS, self.number)
    }

    /// Socket of its virtiofsd.
    pub fn socket(&self) -> String {
        socket(&self.number.to_string())
    }
}

impl SharedFile {
    /// The directory of all of them in the container.
    pub const DIR: &'static str = "/crun-qemu/mounts/files";
    /// Tag of the virtiofs that contains all shared files.
    pub const TAG: &'static str = "crun-qemu-files";

    /// Its name in [`SharedFile::DIR`].
    pub fn name(&self) -> String {
        self.number.to_string()
    }

    /// Path of the file in the container.
    pub fn path(&self) -> String {
        format!("{}/{}", Self::DIR, self.name())
    }

    /// Socket of the virtiofsd for all shared files.
    pub fn socket() -> String {
        socket("files")
    }
}

impl Disk {
    /// Serial number by which the guest identifies the disk.
    pub fn serial(&self) -> String {
        format!("crun-qemu-{}", self.number)
    }

    /// Path of the file or device in the container.
    pub fn path(&self) -> String {
        match self.source {
            DiskSource::File(_) => format!("{}/disk-{}", paths::MOUNTS, self.number),
            DiskSource::Mounted(..) => format!("{}/{}", paths::DISKS, self.number),
            DiskSource::Device(..) => format!("/dev/crun-qemu/{}", self.number),
        }
    }
}

impl Attachments {
    /// Number of virtiofs file systems.
    pub fn virtiofs(&self) -> u64 {
        self.shares.len() as u64 + u64::from(!self.files.is_empty())
    }

    /// Whether the guest has a virtiofs, for which its memory must be shared.
    pub fn has_virtiofs(&self) -> bool {
        self.virtiofs() > 0
    }
}

fn socket(name: &str) -> String {
    format!("{}/{name}", paths::VIRTIOFS)
}
