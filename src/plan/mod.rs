//! Every decision about the VM. Pure: reads no file, starts no process.

pub mod attachments;
mod disk;
mod hostdevs;
mod identity;
mod mounts;
mod network;
mod size;
mod user;

use std::net::SocketAddr;

use oci_spec::runtime::Capability;

use crate::error::{Error, Result};
use crate::host::arch::Arch;
use crate::host::image::Format;
use crate::host::pci;
use crate::host::{Host, Uefi};
use crate::network::Ports;
use crate::request::Request;
use crate::request::options::FirmwareChoice;
use crate::request::ports::Port;

use crate::host::mount_sources::Sources;
use attachments::Attachments;
use size::Memory;

pub use disk::{BootDisk, BootSource};
pub use user::User;

pub use size::{DEFAULT_MEMORY, LEAST_MEMORY, TRANSLATION_CACHE};

/// The VM as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// libvirt's name for the domain.
    pub name: String,
    /// Stable for the container's life: the guest sees it as the machine's serial number.
    pub uuid: String,
    /// The guest's host name.
    pub hostname: String,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The architecture.
    pub arch: &'static Arch,
    /// QEMU's executable.
    pub emulator: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory, bytes.
    pub memory: u64,
    /// Bytes by which the container's memory limit is raised, so that the guest can use all of its memory; 0 without a
    /// limit, or if there is room.
    pub memory_overhead: u64,
    /// The firmware.
    pub firmware: Firmware,
    /// The boot source.
    pub boot: BootSource,
    /// The guest's network.
    pub network: Network,
    /// MAC address of the guest's network card.
    pub mac: String,
    /// Host PCI devices that the guest gets.
    pub hostdevs: Vec<pci::Device>,
    /// Mounts and devices of the container that the guest gets.
    pub attachments: Attachments,
    /// User of QEMU; `None`: the container's root.
    pub user: Option<User>,
    /// QEMU listens on a port below 1024.
    pub low_port: bool,
    /// Warnings for the user.
    pub warnings: Vec<Error>,
}

/// Accelerator of the virtual CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's CPU.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Firmware of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, QEMU's default.
    Bios,
    /// OVMF and the container's own copy of its variables.
    Uefi(Uefi),
}

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A tap in the container's network namespace.
    Tap {
        /// Its name.
        name: String,
        /// Whether the kernel moves the packets (vhost-net).
        vhost: bool,
        /// The ports of the container's addresses that lead to the guest.
        ports: Ports,
    },
    /// QEMU's user network: QEMU is the guest's router and talks to the world as any process of the container does, so
    /// that nothing of it is left in the network namespace when it is gone.
    User {
        /// Address on which QEMU listens for the guest's sshd.
        ssh: SocketAddr,
        /// Further ports on which QEMU listens, for the guest's ports of the same numbers.
        ports: Vec<Port>,
    },
}

/// Facts about the image, found by reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its format.
    pub format: Format,
    /// Size that a guest sees, bytes.
    pub virtual_size: u64,
    /// The root is the engine's own layer: writes are discarded with the container.
    pub root_is_ephemeral: bool,
    /// Whether a BIOS can boot it; not determined if `--firmware` decides.
    pub bios_bootable: bool,
}

/// Decides everything about the VM of the container `id`.
///
/// # Errors
/// Sizes that no VM can have, an image that may not be written to, and firmware that the host lacks.
pub fn plan(id: &str, request: &Request, host: &Host, image: ImageFacts, sources: &Sources) -> Result<Plan> {
    let digest = identity::digest(id);
    let mut warnings = Vec::new();
    let accelerator = accelerator(request, host, &mut warnings);
    let firmware = firmware(request.options.firmware, host, image)?;
    let attachments = mounts::sort(request, sources)?;
    own_processes(request, &attachments)?;
    let vcpus = size::vcpus(request, host)?;
    let overhead = |memory| size::overhead(memory, vcpus, accelerator, &firmware, attachments.virtiofs());
    let Memory { guest: memory, raise } = size::memory(request, host, &firmware, overhead, &mut warnings)?;
    let network = network::network(request, host, id, digest, &mut warnings);
    let hostdevs = hostdevs::hostdevs(request, host, memory)?;
    let needs = user::Needs { pci: !hostdevs.is_empty(), accelerator, attachments: &attachments, network: &network };
    let (user, low_port) = (user::user(request, host, digest, &needs), needs.low_port());
    Ok(Plan {
        memory_overhead: raise,
        name: id.chars().take(12).collect(),
        uuid: identity::uuid(digest),
        hostname: request.hostname.clone().unwrap_or_else(|| id.chars().take(12).collect()),
        accelerator,
        arch: host.arch,
        emulator: host.emulator.clone(),
        vcpus,
        memory,
        firmware,
        boot: BootSource::Disk(disk::disk(request, image)?),
        network,
        mac: identity::mac(digest),
        hostdevs,
        attachments,
        user,
        low_port,
        warnings,
    })
}

/// Checks what the processes around the VM need from the container.
fn own_processes(request: &Request, attachments: &Attachments) -> Result<()> {
    if !request.own_pids {
        // Engines stop such a container by a signal to each of its processes, QEMU too, and kill but its first one.
        let why = "the VM would be stopped without a shutdown of the guest, and a kill would leave QEMU running";
        return Err(Error::new("--pid=host", why).hint("a VM has no use for the host's processes: leave it out"));
    }
    let Some(capabilities) = &request.capabilities else { return Ok(()) };
    let needed = CAPABILITIES.iter().chain(VIRTIOFS_CAPABILITIES.iter().filter(|_| attachments.has_virtiofs()));
    let missing: Vec<_> = needed.filter(|(c, _)| !capabilities.contains(c)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(",");
    Err(Error::new("capabilities", format!("the container lacks {missing}")).hint(format!("--cap-add {missing}")))
}

/// libvirt starts QEMU as another user, in another group and without capabilities, gives it directories and ends it;
/// DHCP has a port below 1024.
const CAPABILITIES: &[(Capability, &str)] = &[
    (Capability::Chown, "chown"),
    (Capability::DacOverride, "dac_override"),
    (Capability::Fowner, "fowner"),
    (Capability::Kill, "kill"),
    (Capability::NetBindService, "net_bind_service"),
    (Capability::Setgid, "setgid"),
    (Capability::Setpcap, "setpcap"),
    (Capability::Setuid, "setuid"),
];

/// virtiofsd shuts itself up in the directory that it serves.
const VIRTIOFS_CAPABILITIES: &[(Capability, &str)] = &[(Capability::SysChroot, "sys_chroot")];

fn accelerator(request: &Request, host: &Host, warnings: &mut Vec<Error>) -> Accelerator {
    if request.options.emulated {
        return Accelerator::Tcg;
    }
    match &host.kvm {
        Ok(()) => Accelerator::Kvm,
        Err(why) => {
            let hint = "the CPU is emulated, which is slow; --emulated silences this warning";
            warnings.push(Error::new("/dev/kvm", why).hint(hint));
            Accelerator::Tcg
        }
    }
}

fn firmware(wanted: FirmwareChoice, host: &Host, image: ImageFacts) -> Result<Firmware> {
    match wanted {
        FirmwareChoice::Bios => return Ok(Firmware::Bios),
        FirmwareChoice::Auto if image.bios_bootable => return Ok(Firmware::Bios),
        FirmwareChoice::Auto | FirmwareChoice::Uefi => {}
    }
    match &host.uefi {
        Some(uefi) => Ok(Firmware::Uefi(uefi.clone())),
        None => Err(Error::new("UEFI firmware", "this host has none")
            .hint("install the package ovmf (Debian) or edk2-ovmf (Fedora), or use --firmware bios")),
    }
}

#[cfg(test)]
pub(crate) mod tests;
