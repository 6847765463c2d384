//! Facts about the host, read once.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde::Deserialize;

use crate::error::{Context, Error, Result, words};
use crate::idmap::IdMap;
use crate::pci;
use crate::sources::Node;

/// What a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The supervisor's executable.
    pub init: PathBuf,
    /// QEMU's executable for this machine's kind of CPU.
    pub emulator: String,
    /// Whether `/dev/kvm` can be used, else why not.
    pub kvm: std::result::Result<(), String>,
    /// Who may open `/dev/kvm`.
    pub kvm_node: Node,
    /// Whether taps can be made, else why not.
    pub tun: std::result::Result<(), String>,
    /// Whether the kernel can move a tap's packets.
    pub vhost_net: bool,
    /// UEFI firmware that is installed.
    pub uefi: Option<Uefi>,
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Memory that this process may lock, bytes; what it starts inherits that.
    pub memlock: u64,
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

/// Something without which no VM runs.
pub struct Requirement {
    /// What it is.
    pub what: &'static str,
    /// Where distributions put it.
    candidates: &'static [&'static str],
    test: fn(&Path) -> bool,
    /// The package that has it.
    package: &'static str,
}

const QEMU: Requirement = Requirement {
    what: "QEMU",
    candidates: &["/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"],
    test: is_executable,
    package: "qemu-system-x86 (Debian) or qemu-kvm (Fedora)",
};
const DRIVER: Requirement = Requirement {
    what: "libvirt's QEMU driver",
    candidates: &[
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
        "/usr/lib/libvirt/connection-driver/libvirt_driver_qemu.so",
    ],
    test: Path::is_file,
    package: "libvirt-daemon-driver-qemu",
};
const SSH: Requirement = Requirement {
    what: "ssh",
    candidates: &["/usr/bin/ssh"],
    test: is_executable,
    package: "openssh-client (Debian) or openssh-clients (Fedora)",
};

/// Rust's, then C's, which is as old as the QEMU that brought it.
const VIRTIOFSD: Requirement = Requirement {
    what: "virtiofsd",
    candidates: &[
        "/usr/libexec/virtiofsd",
        "/usr/lib/virtiofsd",
        "/usr/bin/virtiofsd",
        "/usr/local/libexec/virtiofsd",
        "/usr/local/bin/virtiofsd",
        "/usr/lib/qemu/virtiofsd",
    ],
    test: is_executable,
    package: "virtiofsd (Fedora, Debian 13) or qemu-system-common (Debian 12)",
};

/// What serves the directories and files that a container was given; not needed without any.
///
/// # Errors
/// It is not installed.
pub fn virtiofsd() -> Result<&'static str> {
    VIRTIOFSD.find()
}

/// Everything that a VM needs; ssh is for `podman exec` alone.
pub const REQUIREMENTS: &[Requirement] = &[QEMU, DRIVER, SSH];

impl Requirement {
    /// Where it is.
    ///
    /// # Errors
    /// It is not there; the error names the package.
    pub fn find(&self) -> Result<&'static str> {
        let found = self.candidates.iter().find(|path| (self.test)(Path::new(path))).copied();
        found
            .ok_or_else(|| Error::new(self.what, "not installed").hint(format!("install the package {}", self.package)))
    }
}

const KVM: &str = "/dev/kvm";
/// Descriptions of the firmware builds that are installed, as QEMU's interoperability documents define them.
const FIRMWARE_DESCRIPTIONS: &str = "/usr/share/qemu/firmware";

impl Host {
    /// Looks at the host; `init` is the supervisor's executable.
    ///
    /// # Errors
    /// Something is missing without which no VM runs, with the package that has it.
    pub fn detect(init: &Path) -> Result<Self> {
        if !is_executable(init) {
            return Err(Error::new(init.display().to_string(), "not an executable").hint("run make install again"));
        }
        let emulator = QEMU.find()?;
        DRIVER.find()?;
        Ok(Self {
            init: init.to_path_buf(),
            emulator: emulator.to_string(),
            kvm: usable(KVM),
            kvm_node: fs::metadata(KVM).map_or(Node { mode: 0, gid: 0 }, |metadata| Node::of(&metadata)),
            tun: usable("/dev/net/tun"),
            vhost_net: usable("/dev/vhost-net").is_ok(),
            uefi: uefi(Path::new(FIRMWARE_DESCRIPTIONS)),
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK).context("locked memory")?.1,
            uids: id_map("/proc/self/uid_map")?,
            gids: id_map("/proc/self/gid_map")?,
            pci: Vec::new(),
        })
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn id_map(path: &str) -> Result<IdMap> {
    fs::read_to_string(path).map(|text| IdMap::parse(&text)).context(path)
}

fn usable(device: &str) -> std::result::Result<(), String> {
    OpenOptions::new().read(true).write(true).open(device).map(drop).map_err(|e| words(&e))
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

/// The first build, in the order of the descriptions' names, for q35 without secure boot: secure boot wants SMM, which
/// is slow, and refuses the unsigned kernels that people test.
fn uefi(descriptions: &Path) -> Option<Uefi> {
    let mut files: Vec<_> = fs::read_dir(descriptions).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().find_map(|file| described_uefi(&fs::read_to_string(file).ok()?))
}

fn described_uefi(json: &str) -> Option<Uefi> {
    let d: Description = serde_json::from_str(json).ok()?;
    let fits = d.interface_types.iter().any(|t| t == "uefi")
        && d.targets.iter().any(|t| t.architecture == "x86_64" && t.machines.iter().any(|m| m.contains("q35")))
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
            // As Debian 12 describes its plain build: it can serve encrypted guests, and need not.
            ("30-plain.json", description(r#""acpi-s3", "amd-sev", "verbose-dynamic""#, "raw")),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(uefi(dir.path()), Some(Uefi { code: "/usr/c.fd".into(), vars: "/usr/v.fd".into() }));
    }

    #[test]
    fn what_is_missing_names_its_package() {
        let qemu = Requirement { candidates: &["/nowhere/qemu"], package: "qemu-system-x86 (Debian)", ..QEMU };
        let error = qemu.find().unwrap_err();
        assert_eq!(error.to_string(), "qemu: QEMU: not installed (install the package qemu-system-x86 (Debian))");
    }
}
