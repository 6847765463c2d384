//! Facts about the host, and everything untrusted that is read there: the image, the container's root, the user's files.
//!
//! Runs in crun's process or the runtime executable, before the container exists. The image and its root are hostile; so
//! are options, which may come from an image or a pod's author.

mod access;
pub mod arch;
mod ask;
mod cache;
pub mod cgroup;
pub mod idmap;
pub mod image;
mod kvm;
pub mod mount_sources;
pub mod pci;
pub mod policy;
mod requirement;
pub mod rootfs;
mod selinux;
mod system;
pub mod user_files;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde::Deserialize;

use crate::error::{Context, Error, Result, message};
use crate::host::idmap::IdMap;
use crate::host::mount_sources::Node;
use arch::Arch;
use requirement::is_executable;

pub use access::{Identity, by_group_alone, is_real_root};
pub use ask::{Answer, ask, watch};
pub use cache::directory as cache_directory;
pub use kvm::{BROKEN as KVM_BROKEN, runs_code};
pub use requirement::{BIOS, DRIVER, Requirement, SSH, VIRTIOFSD};
pub use selinux::Selinux;
pub use system::{LOADER_CACHE, loader_cache, merged_usr};

/// The facts that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The supervisor's executable.
    pub init: PathBuf,
    /// The architecture.
    pub arch: &'static Arch,
    /// QEMU's executable.
    pub emulator: String,
    /// Whether `/dev/kvm` is usable, else why not.
    pub kvm: Usable,
    /// Owner and mode of `/dev/kvm`.
    pub kvm_node: Node,
    /// Whether taps can be made, else why not.
    pub tun: Usable,
    /// Whether the kernel can move a tap's packets (vhost-net).
    pub vhost_net: bool,
    /// UEFI firmware that is installed.
    pub uefi: Option<Uefi>,
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Memory that this process may lock, bytes; what it starts inherits that.
    pub memlock: u64,
    /// The limit of memory of the cgroups above the container's, bytes; see [`crate::host::cgroup`].
    pub memory_above: Option<u64>,
    /// The users that this process' user namespace has.
    pub uids: IdMap,
    /// The groups that it has.
    pub gids: IdMap,
    /// The PCI devices that were asked for; see [`pci::find`].
    pub pci: Vec<pci::Device>,
}

/// A UEFI build: code and the template of its variables, each below `/usr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    /// Read-only code.
    pub code: String,
    /// Variables before the first boot.
    pub vars: String,
}

/// Descriptions of the firmware builds that are installed, as QEMU's interoperability documents define them.
const FIRMWARE_DESCRIPTIONS: &str = "/usr/share/qemu/firmware";

/// Properties of a container that decide what it may use of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Credentials of its processes.
    pub identity: Identity,
    /// SELinux confines it.
    pub labelled: bool,
    /// It does not need KVM: `--emulated`.
    pub emulated: bool,
    /// Its cgroup, as the engine names it.
    pub cgroup: Option<PathBuf>,
}

impl Host {
    /// Looks at the host for `container`, which gets the devices `pci`; `init` is the supervisor's executable.
    ///
    /// # Errors
    /// Something is missing without which no VM runs, with the package that provides it; or the container's processes
    /// may not open the node of a PCI device.
    pub fn detect(init: &Path, container: &Container, pci: Vec<pci::Device>) -> Result<Self> {
        let arch = Arch::of_host()?;
        if !is_executable(init) {
            return Err(Error::new(init.display().to_string(), "not an executable").hint("run make install again"));
        }
        let emulator = arch.emulator().find()?;
        DRIVER.find()?;
        loader_cache(Path::new(LOADER_CACHE))?;
        let devices = Devices::look(container);
        check_pci(&pci, container)?;
        Ok(Self {
            init: init.to_path_buf(),
            arch,
            emulator: emulator.to_string(),
            kvm: devices.kvm.and_then(|()| if container.emulated { Ok(()) } else { runs_code(init) }),
            kvm_node: fs::metadata("/dev/kvm").map_or(Node { mode: 0, gid: 0 }, |metadata| Node::of(&metadata)),
            tun: devices.tun,
            vhost_net: devices.vhost_net.is_ok(),
            uefi: installed_uefi(arch),
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK).context("locked memory")?.1,
            memory_above: cgroup::memory_above(container.cgroup.as_deref()),
            uids: id_map("/proc/self/uid_map")?,
            gids: id_map("/proc/self/gid_map")?,
            pci,
        })
    }
}

/// Refuses PCI devices whose nodes in `/dev/vfio` are open to the engine and not to the container's processes.
fn check_pci(devices: &[pci::Device], container: &Container) -> Result<()> {
    for device in devices {
        for node in [pci::control(), device.group.node()] {
            let may = selinux_allows(container).and_then(|()| permitted(&node, container.identity.permits([&node])[0]));
            may.map_err(|why| Error::new(node.display().to_string(), why))?;
        }
    }
    Ok(())
}

/// The devices that QEMU opens: whether it can, else why not.
pub struct Devices {
    /// `/dev/kvm`.
    pub kvm: Usable,
    /// `/dev/net/tun`.
    pub tun: Usable,
    /// `/dev/vhost-net`.
    pub vhost_net: Usable,
}

/// Whether something can be used, else why not.
pub type Usable = std::result::Result<(), String>;

impl Devices {
    /// Looks at them for `container`.
    pub fn look(container: &Container) -> Self {
        let paths = ["/dev/kvm", "/dev/net/tun", "/dev/vhost-net"].map(Path::new);
        let allowed = container.identity.permits(paths);
        // The engine's own result first: it is more specific about a device that no one can use.
        let usable = |n: usize| usable(paths[n]).and_then(|()| permitted(paths[n], allowed[n]));
        let labelled = |usable: Usable| usable.and_then(|()| selinux_allows(container));
        Self { kvm: usable(0), tun: labelled(usable(1)), vhost_net: labelled(usable(2)) }
    }
}

/// Why the container's processes may not open what the engine's user may.
fn others_only(device: &Path) -> String {
    let by_group = fs::metadata(device).is_ok_and(|m| m.mode() & 0o060 == 0o060);
    // Root is in no group for the sake of a device.
    if by_group && !access::is_real_root() {
        "open to a group that the container does not keep: --group-add keep-groups".into()
    } else {
        "closed to the container's user".into()
    }
}

fn permitted(device: &Path, permitted: bool) -> Usable {
    if permitted { Ok(()) } else { Err(others_only(device)) }
}

/// SELinux treats `/dev/kvm` separately from all other devices.
fn selinux_allows(container: &Container) -> Usable {
    if !container.labelled {
        return Ok(());
    }
    match Selinux::look(Path::new(selinux::ROOT)) {
        Selinux::Enforcing { devices: false } => Err(format!("SELinux keeps it from containers: {}", selinux::DEVICES)),
        _ => Ok(()),
    }
}

fn id_map(path: &str) -> Result<IdMap> {
    fs::read_to_string(path).map(|text| IdMap::parse(&text)).context(path)
}

fn usable(device: &Path) -> Usable {
    OpenOptions::new().read(true).write(true).open(device).map(drop).map_err(|e| message(&e))
}

/// The parts of a firmware description that decide.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    interface_types: Vec<String>,
    mapping: serde_json::Value,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The first build, in the order of the descriptions' names, for the machine type and without secure boot: secure boot
/// needs SMM, which is slow, and refuses the unsigned kernels that developers test.
fn uefi(arch: &Arch, descriptions: &Path) -> Option<Uefi> {
    let mut files: Vec<_> = fs::read_dir(descriptions).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().find_map(|file| described_uefi(arch, &fs::read_to_string(file).ok()?))
}

/// The UEFI firmware that VMs get; the package is ovmf (Debian) or edk2-ovmf (Fedora).
pub fn installed_uefi(arch: &Arch) -> Option<Uefi> {
    uefi(arch, Path::new(FIRMWARE_DESCRIPTIONS))
}

fn described_uefi(arch: &Arch, json: &str) -> Option<Uefi> {
    let d: Description = serde_json::from_str(json).ok()?;
    let fits = d.interface_types.iter().any(|t| t == "uefi")
        && d.targets.iter().any(|t| t.architecture == arch.name && t.machines.iter().any(|m| m.contains(arch.machine)))
        && !d.features.iter().any(|f| ["secure-boot", "enrolled-keys", "requires-smm"].contains(&f.as_str()));
    let file = |part: &str| {
        let part = &d.mapping[part];
        let raw = part["format"] == "raw";
        part["filename"].as_str().filter(|name| raw && Path::new(name).is_absolute()).map(str::to_string)
    };
    if !fits || d.mapping["device"] != "flash" {
        return None;
    }
    Some(Uefi { code: file("executable")?, vars: file("nvram-template")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(features: &str, format: &str) -> String {
        format!(
            r#"{{"description": "x", "interface-types": ["uefi"], "tags": [],
                "mapping": {{"device": "flash", "executable": {{"filename": "/usr/c.fd", "format": "{format}"}},
                             "nvram-template": {{"filename": "/usr/v.fd", "format": "raw"}}}},
                "targets": [{{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}}],
                "features": [{features}]}}"#
        )
    }

    #[test]
    fn the_first_plain_build_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("10-secure.json", description(r#""secure-boot", "requires-smm""#, "raw")),
            ("20-other.json", description("", "qcow2")),
            ("25-broken.json", "{".to_string()),
            // Debian 12 describes its plain build like this: it can serve encrypted guests but need not.
            ("30-plain.json", description(r#""acpi-s3", "amd-sev", "verbose-dynamic""#, "raw")),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(
            uefi(Arch::of_host().unwrap(), dir.path()),
            Some(Uefi { code: "/usr/c.fd".into(), vars: "/usr/v.fd".into() })
        );
    }
}
