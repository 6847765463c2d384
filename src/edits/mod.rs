//! The changes to an OCI configuration that run a VM in place of the container's process.
//!
//! One list, two appliers: [`crate::crun`] writes it into crun's structs, the runtime executable into `config.json`.

pub mod json;
pub mod memory_limits;

use std::path::{Path, PathBuf};

use crate::handoff::paths;
use crate::host::pci;
use crate::plan::attachments::{Disk, DiskSource, SharedFile};
use crate::plan::{Accelerator, Network, Plan};

/// All changes to one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edits {
    /// The new root directory; it is mounted read-only.
    pub root: PathBuf,
    /// The container's process, an absolute path in the new root first.
    pub args: Vec<String>,
    /// The complete new list of mounts, in order.
    pub mounts: Vec<MountEdit>,
    /// Devices that the container may use in addition.
    pub devices: Vec<DeviceRule>,
    /// Devices that the engine has made in the container, by their indices, and the paths to which they move.
    pub device_paths: Vec<(usize, String)>,
    /// Bytes by which the container's memory limits are raised: what the VM needs beside the guest's memory.
    pub memory: u64,
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

/// A device that the container may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// A block device, else a character device.
    pub is_block: bool,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// `r` or `rw`.
    pub access: &'static str,
}

impl DeviceRule {
    /// The letter by which the specification calls the kind.
    pub fn kind(&self) -> &'static str {
        if self.is_block { "b" } else { "c" }
    }
}

/// The files of a [`BootSource`](crate::plan::BootSource), on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFiles {
    /// A disk image.
    Disk {
        /// The image.
        image: PathBuf,
        /// The overlay; without one the image takes the writes.
        overlay: Option<PathBuf>,
    },
}

impl BootFiles {
    fn mounts(&self) -> Vec<MountEdit> {
        match self {
            Self::Disk { image, overlay: None } => vec![bind(paths::IMAGE, image, DATA)],
            Self::Disk { image, overlay: Some(overlay) } => {
                vec![bind(paths::IMAGE, image, READ_ONLY_DATA), bind(paths::OVERLAY, overlay, DATA)]
            }
        }
    }
}

/// Host paths of everything that the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// The container's root.
    pub root: PathBuf,
    /// Mount that provides the configured working directory.
    pub workdir: Option<Mount>,
    /// The supervisor's executable.
    pub init: PathBuf,
    /// The files that the guest boots from.
    pub boot: BootFiles,
    /// UEFI variables.
    pub nvram: Option<PathBuf>,
    /// Directory in which the fd store listens.
    pub fd_store: Option<PathBuf>,
    /// The program that serves virtiofs.
    pub virtiofsd: Option<PathBuf>,
    /// The cache of what QEMU can do.
    pub capabilities: Option<PathBuf>,
}

const READ_ONLY: &[&str] = &["ro", "nosuid", "nodev"];
const READ_ONLY_DATA: &[&str] = &["ro", "nosuid", "nodev", "noexec"];
/// In a user namespace, a directory may be bound only together with the file systems that are mounted below it.
const READ_ONLY_TREE: &[&str] = &["rbind", "rprivate", "rro", "rnosuid", "rnodev"];
const DATA: &[&str] = &["rw", "nosuid", "nodev", "noexec"];
const DEVICE: &[&str] = &["rw", "nosuid", "noexec"];

impl Edits {
    /// The edits that turn a container into the plan's VM. Pure.
    pub fn new(plan: &Plan, artifacts: &Artifacts) -> Self {
        let devices = devices(plan);
        let usr = bind_mount("/usr", Path::new("/usr"), READ_ONLY_TREE);
        let mut mounts = vec![usr, tmpfs("/run", "16m"), tmpfs("/tmp", "16m")];
        mounts.extend(artifacts.workdir.clone().map(MountEdit::Add));
        mounts.extend([
            // Replaces the host's /usr/local: crun looks up the command of `podman exec` there.
            bind("/usr/local", &artifacts.root.join("crun-qemu/local"), READ_ONLY_DATA),
            bind("/etc/ld.so.cache", Path::new("/etc/ld.so.cache"), READ_ONLY_DATA),
            tmpfs(paths::LOGS, "4m"),
        ]);
        mounts.extend(plan.attachments.kept.iter().copied().map(MountEdit::Keep));
        mounts.extend(
            plan.attachments.engine_files.iter().map(|(index, path)| moved(*index, path.clone(), READ_ONLY_DATA)),
        );
        mounts.extend(devices.iter().map(|(path, _)| bind(&path.display().to_string(), path, DEVICE)));
        mounts.push(bind(paths::INIT, &artifacts.init, READ_ONLY));
        mounts.extend(artifacts.boot.mounts());
        mounts.extend(artifacts.nvram.iter().map(|path| bind(paths::NVRAM, path, DATA)));
        mounts.extend(artifacts.fd_store.iter().map(|path| bind(paths::FD_STORE_DIR, path, READ_ONLY_DATA)));
        mounts.extend(artifacts.virtiofsd.iter().map(|path| bind(paths::VIRTIOFSD, path, READ_ONLY)));
        mounts.extend(artifacts.capabilities.iter().map(|path| bind(paths::CAPABILITIES, path, READ_ONLY_DATA)));
        mounts.extend(moved_mounts(plan));
        let rules = plan.attachments.disks.iter().filter_map(block_rule);
        Self {
            root: artifacts.root.clone(),
            args: vec![paths::INIT.to_string()],
            mounts,
            devices: devices.into_iter().map(|(_, device)| device).chain(rules).collect(),
            device_paths: plan.attachments.disks.iter().filter_map(moved_device).collect(),
            memory: plan.memory_overhead,
        }
    }
}

fn moved(index: usize, destination: String, options: &[&str]) -> MountEdit {
    MountEdit::Move { index, destination, options: options.iter().map(ToString::to_string).collect() }
}

/// The user's mounts, moved to where they hide nothing of ours and where nothing in them is executed.
fn moved_mounts(plan: &Plan) -> Vec<MountEdit> {
    let attachments = &plan.attachments;
    let shares = attachments.shares.iter().map(|s| moved(s.mount, s.path(), &READ_ONLY_DATA[1..]));
    let data = |read_only: bool| if read_only { READ_ONLY_DATA } else { &READ_ONLY_DATA[1..] };
    let file = |f: &SharedFile| moved(f.mount, f.path(), data(f.read_only));
    let files = attachments.files.iter().map(file);
    let disks = attachments.disks.iter().filter_map(|disk| match disk.source {
        DiskSource::File(mount) => Some(moved(mount, disk.path(), data(disk.read_only))),
        DiskSource::Mounted(mount, _) => Some(moved(mount, disk.path(), &["nosuid", "noexec"])),
        DiskSource::Device(..) => None,
    });
    shares.chain(files).chain(disks).collect()
}

/// The engine makes no rule for a block device that it takes for a mount like others.
fn block_rule(disk: &Disk) -> Option<DeviceRule> {
    let DiskSource::Mounted(_, device) = disk.source else { return None };
    let access = if disk.read_only { "r" } else { "rw" };
    Some(DeviceRule { is_block: true, major: device.major, minor: device.minor, access })
}

fn moved_device(disk: &Disk) -> Option<(usize, String)> {
    match disk.source {
        DiskSource::Device(index, _) => Some((index, disk.path())),
        _ => None,
    }
}

/// The devices that QEMU opens, with their numbers: these are the kernel's own and fixed, but for VFIO's groups.
fn devices(plan: &Plan) -> Vec<(PathBuf, DeviceRule)> {
    let misc = |minor| DeviceRule { is_block: false, major: 10, minor, access: "rw" };
    let mut devices = Vec::new();
    if plan.accelerator == Accelerator::Kvm {
        devices.push(("/dev/kvm".into(), misc(232)));
    }
    if let Network::Tap { vhost, .. } = plan.network {
        devices.push(("/dev/net/tun".into(), misc(200)));
        if vhost {
            devices.push(("/dev/vhost-net".into(), misc(238)));
        }
    }
    if !plan.hostdevs.is_empty() {
        devices.push((pci::control(), misc(196)));
    }
    for pci::Device { group, .. } in &plan.hostdevs {
        let node = (group.node(), DeviceRule { is_block: false, major: group.major, minor: group.minor, access: "rw" });
        // Devices may share a group.
        if !devices.contains(&node) {
            devices.push(node);
        }
    }
    devices
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> MountEdit {
    bind_mount(destination, source, &[&["bind", "private"], options].concat())
}

fn bind_mount(destination: &str, source: &Path, options: &[&str]) -> MountEdit {
    let options = options.iter().map(ToString::to_string).collect();
    let source = source.display().to_string();
    MountEdit::Add(Mount { destination: destination.to_string(), kind: "bind".to_string(), source, options })
}

/// A tmpfs, which takes host memory and is therefore bounded: a guest can make QEMU write log lines without end.
fn tmpfs(destination: &str, size: &str) -> MountEdit {
    let size = format!("size={size}");
    let options = ["nosuid", "nodev", "noexec", "mode=755", &size].map(str::to_string).to_vec();
    let (kind, source) = ("tmpfs".to_string(), "tmpfs".to_string());
    MountEdit::Add(Mount { destination: destination.to_string(), kind, source, options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{BIOS_IMAGE, ID, host, request};

    #[test]
    fn passed_devices_bring_the_nodes_of_their_groups_and_no_more() {
        let mut host = host();
        (host.memlock, host.pci) = (u64::MAX, pci::tests::devices());
        let devices = devices(&crate::plan::plan(ID, &request(), &host, BIOS_IMAGE, &Default::default()).unwrap());
        let vfio = devices.iter().filter(|(path, _)| path.starts_with("/dev/vfio"));
        let vfio: Vec<_> = vfio.map(|(path, d)| (path.to_str().unwrap(), d.major, d.minor)).collect();
        assert_eq!(vfio, [("/dev/vfio/vfio", 10, 196), ("/dev/vfio/7", 511, 0), ("/dev/vfio/12", 511, 1)]);
    }
}
