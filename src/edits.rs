//! What is changed in an OCI configuration to run a VM in place of the container's process.
//!
//! One list, two appliers: [`crate::crun`] writes it into crun's structs, the runtime executable into `config.json`.

use std::path::{Path, PathBuf};

use crate::paths;
use crate::plan::{Accelerator, Network, Plan};

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

/// Where the things are, on the host, that the container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// The container's root.
    pub root: PathBuf,
    /// The supervisor's executable.
    pub init: PathBuf,
    /// The VM image.
    pub image: PathBuf,
    /// The overlay.
    pub overlay: PathBuf,
    /// UEFI variables.
    pub nvram: Option<PathBuf>,
    /// Directory in which the network's keeper listens.
    pub keeper: Option<PathBuf>,
    /// The cache of what QEMU can do.
    pub capabilities: Option<PathBuf>,
}

const READ_ONLY: &[&str] = &["ro", "nosuid", "nodev"];
const READ_ONLY_DATA: &[&str] = &["ro", "nosuid", "nodev", "noexec"];
const DATA: &[&str] = &["rw", "nosuid", "nodev", "noexec"];
const DEVICE: &[&str] = &["rw", "nosuid", "noexec"];

impl Edits {
    /// The edits that turn a container into the plan's VM. Pure.
    pub fn new(plan: &Plan, artifacts: &Artifacts) -> Self {
        let devices = devices(plan);
        let mut mounts = vec![
            bind("/usr", Path::new("/usr"), READ_ONLY),
            // In place of the host's /usr/local: what crun looks up for `podman exec`.
            bind("/usr/local", &artifacts.root.join("crun-qemu/local"), READ_ONLY_DATA),
            bind("/etc/ld.so.cache", Path::new("/etc/ld.so.cache"), READ_ONLY_DATA),
            tmpfs("/run"),
            tmpfs("/tmp"),
        ];
        mounts.extend(plan.kept_mounts.iter().copied().map(MountEdit::Keep));
        mounts.extend(devices.iter().map(|(path, _)| bind(path, Path::new(path), DEVICE)));
        mounts.extend([
            bind(paths::INIT, &artifacts.init, READ_ONLY),
            bind(paths::IMAGE, &artifacts.image, READ_ONLY_DATA),
            bind(paths::OVERLAY, &artifacts.overlay, DATA),
        ]);
        mounts.extend(artifacts.nvram.iter().map(|path| bind(paths::NVRAM, path, DATA)));
        mounts.extend(artifacts.keeper.iter().map(|path| bind(paths::KEEPER_DIR, path, READ_ONLY_DATA)));
        mounts.extend(artifacts.capabilities.iter().map(|path| bind(paths::CAPABILITIES, path, READ_ONLY_DATA)));
        Self {
            root: artifacts.root.clone(),
            args: vec![paths::INIT.to_string()],
            mounts,
            devices: devices.into_iter().map(|(_, device)| device).collect(),
        }
    }
}

/// The devices that QEMU opens, with their numbers: these are the kernel's own and fixed.
fn devices(plan: &Plan) -> Vec<(&'static str, CharDevice)> {
    let misc = |minor| CharDevice { major: 10, minor };
    let mut devices = Vec::new();
    if plan.accelerator == Accelerator::Kvm {
        devices.push(("/dev/kvm", misc(232)));
    }
    if let Network::Tap { vhost, .. } = plan.network {
        devices.push(("/dev/net/tun", misc(200)));
        if vhost {
            devices.push(("/dev/vhost-net", misc(238)));
        }
    }
    devices
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> MountEdit {
    let options = ["bind", "private"].iter().chain(options).map(ToString::to_string).collect();
    let source = source.display().to_string();
    MountEdit::Add(Mount { destination: destination.to_string(), kind: "bind".to_string(), source, options })
}

fn tmpfs(destination: &str) -> MountEdit {
    let options = ["nosuid", "nodev", "noexec", "mode=755"].map(str::to_string).to_vec();
    let (kind, source) = ("tmpfs".to_string(), "tmpfs".to_string());
    MountEdit::Add(Mount { destination: destination.to_string(), kind, source, options })
}
