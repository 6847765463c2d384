//! Every decision about the VM. Pure: reads no file, starts no process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use oci_spec::runtime::{Capability, Mount};

use crate::error::{Error, Result};
use crate::host::{Host, Uefi};
use crate::image::Format;
use crate::paths;
use crate::request::options::Firmware as Wanted;
use crate::request::ports::Port;
use crate::request::{Request, is_engine_init};

/// Guest memory without `--memory`, bytes.
pub const DEFAULT_MEMORY: u64 = 2 << 30;
/// Below this no firmware gets as far as a kernel, bytes.
const LEAST_MEMORY: u64 = 32 << 20;

/// The VM as it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// libvirt's name for the domain.
    pub name: String,
    /// Stable for the container's life: the guest sees it as the machine's serial number.
    pub uuid: String,
    /// The guest's host name.
    pub hostname: String,
    /// What runs the guest's code.
    pub accelerator: Accelerator,
    /// QEMU's executable.
    pub emulator: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory, bytes.
    pub memory: u64,
    /// What boots the disk.
    pub firmware: Firmware,
    /// Format of the image below the overlay.
    pub image_format: Format,
    /// How the guest reaches the network.
    pub network: Network,
    /// Hardware address of the guest's network card.
    pub mac: String,
    /// The engine's mounts that the container keeps, as indices.
    pub kept_mounts: Vec<usize>,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's CPU.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// What boots the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, QEMU's default.
    Bios,
    /// OVMF and the container's own copy of its variables.
    Uefi(Uefi),
}

/// How the guest reaches the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A tap in the container's own network namespace.
    Tap {
        /// Its name.
        name: String,
        /// Whether the kernel moves the packets.
        vhost: bool,
    },
    /// QEMU's user network: QEMU is the guest's router and talks to the world as any process of the container does, so
    /// that nothing of it is left in the network namespace when it is gone.
    User {
        /// Where QEMU listens for the guest's sshd.
        ssh: SocketAddr,
        /// Where QEMU listens besides, for the guest's ports of the same numbers.
        ports: Vec<Port>,
    },
}

/// What the image itself says, found by looking at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its format.
    pub format: Format,
    /// Whether its boot sector can be booted by a BIOS; not looked at where `--firmware` decides.
    pub bios_bootable: bool,
}

/// Decides. `id` is the container's.
///
/// # Errors
/// Sizes that no VM can have, and firmware that the host lacks.
pub fn plan(id: &str, request: &Request, host: &Host, image: ImageFacts) -> Result<Plan> {
    own_processes(request)?;
    let digest = digest(id);
    let mut warnings = Vec::new();
    Ok(Plan {
        name: id.chars().take(12).collect(),
        uuid: uuid(digest),
        hostname: request.hostname.clone().unwrap_or_else(|| id.chars().take(12).collect()),
        accelerator: accelerator(request, host, &mut warnings),
        emulator: host.emulator.clone(),
        vcpus: vcpus(request, host)?,
        memory: memory(request)?,
        firmware: firmware(request.options.firmware, host, image)?,
        image_format: image.format,
        network: network(request, host, id, digest, &mut warnings),
        mac: mac(digest),
        kept_mounts: kept_mounts(&request.mounts)?,
        warnings,
    })
}

/// What the processes around the VM need of the container.
fn own_processes(request: &Request) -> Result<()> {
    if !request.own_pids {
        // Engines stop such a container by a signal to each of its processes, QEMU too, and kill but its first one.
        let why = "the VM would be stopped without a shutdown of the guest, and a kill would leave QEMU running";
        return Err(Error::new("--pid=host", why).hint("a VM has no use for the host's processes: leave it out"));
    }
    let Some(capabilities) = &request.capabilities else { return Ok(()) };
    let missing = CAPABILITIES.iter().filter(|(capability, _)| !capabilities.contains(capability));
    let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(",");
    Err(Error::new("capabilities", format!("the container lacks {missing}")).hint(format!("--cap-add {missing}")))
}

/// libvirt starts QEMU with a change of user, group and capabilities, even to what they are, and lets it override file
/// modes when it asks what it can do; DHCP has a port below 1024.
const CAPABILITIES: &[(Capability, &str)] = &[
    (Capability::DacOverride, "dac_override"),
    (Capability::NetBindService, "net_bind_service"),
    (Capability::Setgid, "setgid"),
    (Capability::Setpcap, "setpcap"),
    (Capability::Setuid, "setuid"),
];

fn accelerator(request: &Request, host: &Host, warnings: &mut Vec<String>) -> Accelerator {
    if request.options.emulated {
        return Accelerator::Tcg;
    }
    match &host.kvm {
        Ok(()) => Accelerator::Kvm,
        Err(why) => {
            let line = Error::new("/dev/kvm", why)
                .hint("the CPU is emulated, which is slow; --emulated says that this is meant");
            warnings.push(line.to_string());
            Accelerator::Tcg
        }
    }
}

fn vcpus(request: &Request, host: &Host) -> Result<u32> {
    let allowed = match &request.cpuset {
        Some(list) => {
            cpuset_len(list).ok_or_else(|| Error::new(format!("--cpuset-cpus {list}"), "not a list of CPUs"))?
        }
        None => host.cpus,
    };
    // Engines refuse more CPUs than the host has, so the float is small and positive.
    Ok(request.cpus.map_or(allowed, |cpus| cpus.ceil() as u32).max(1))
}

/// Counts the CPUs of a list such as `0-3,8`.
fn cpuset_len(list: &str) -> Option<u32> {
    let mut len = 0u32;
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        len = len.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(len)
}

fn memory(request: &Request) -> Result<u64> {
    let memory = request.memory.unwrap_or(DEFAULT_MEMORY);
    if memory < LEAST_MEMORY {
        let why = format!("{} MiB is too little for a VM", memory >> 20);
        return Err(Error::new("--memory", why).hint(format!("at least {}m", LEAST_MEMORY >> 20)));
    }
    Ok(memory)
}

fn firmware(wanted: Wanted, host: &Host, image: ImageFacts) -> Result<Firmware> {
    match wanted {
        Wanted::Bios => return Ok(Firmware::Bios),
        Wanted::Auto if image.bios_bootable => return Ok(Firmware::Bios),
        Wanted::Auto | Wanted::Uefi => {}
    }
    match &host.uefi {
        Some(uefi) => Ok(Firmware::Uefi(uefi.clone())),
        None => Err(Error::new("UEFI firmware", "this host has none")
            .hint("install the package ovmf (Debian) or edk2-ovmf (Fedora), or use --firmware bios")),
    }
}

fn network(request: &Request, host: &Host, id: &str, digest: u128, warnings: &mut Vec<String>) -> Network {
    let why = match (request.own_network, &host.tun) {
        (true, Ok(())) => return Network::Tap { name: crate::network::tap_name(id), vhost: host.vhost_net },
        (true, Err(why)) => format!("/dev/net/tun: {why}"),
        (false, _) => "the container shares one".to_string(),
    };
    let ports = request.options.ports.clone();
    let reached = match &*ports {
        [] => "nothing reaches it, unless --port names ports".to_string(),
        ports => format!("only port {} reaches it", ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ")),
    };
    let line =
        Error::new("network", why).hint(format!("the guest gets QEMU's user network: it reaches out, {reached}"));
    warnings.push(line.to_string());
    Network::User { ssh: ssh_forward(digest), ports }
}

/// VMs may share a network, the host's even, so each has a loopback address of its own: one of 16 million, none of
/// which anybody else uses by custom.
fn ssh_forward(digest: u128) -> SocketAddr {
    let octet = |n: u32| 1 + (digest >> (8 * n) & 0xff) as u8 % 254;
    SocketAddr::new(Ipv4Addr::new(127, octet(2), octet(1), octet(0)).into(), paths::SSH_PORT)
}

/// Mounts that the engine makes in every container and that serve the processes around the VM too. Directories are
/// meant with everything below them.
const KEPT_DIRS: &[&str] = &["/dev", "/proc", "/sys"];
const KEPT_FILES: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
/// Mounts that the engine makes for the container's own programs, of which there are none.
const DROPPED: &[&str] = &["/run", "/run/lock", "/run/secrets", "/tmp", "/var/tmp", "/var/log/journal"];

fn kept_mounts(mounts: &[Mount]) -> Result<Vec<usize>> {
    let mut kept = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let destination = mount.destination();
        let name = destination.to_string_lossy();
        let system = KEPT_DIRS.iter().any(|dir| destination.starts_with(dir));
        if KEPT_FILES.contains(&&*name) || (system && is_the_kernels(mount)) {
            kept.push(index);
        } else if !DROPPED.contains(&&*name) && !is_engine_init(&name) {
            return Err(Error::new(format!("mount {name}"), "passing it to the guest is not supported yet"));
        }
    }
    Ok(kept)
}

/// Whether what is below `/dev`, `/proc` or `/sys` shows something of the kernel's or an empty directory. The rest is a
/// directory of somebody's: an image's `VOLUME /proc` would be a forged one.
fn is_the_kernels(mount: &Mount) -> bool {
    let (destination, source) = (mount.destination(), mount.source().as_deref());
    let options = mount.options().iter().flatten();
    let bind = mount.typ().as_deref() == Some("bind") || options.into_iter().any(|o| o == "bind" || o == "rbind");
    let from_kernel = source.is_some_and(|s| KEPT_DIRS.iter().any(|dir| s.starts_with(dir)));
    match mount.typ().as_deref() {
        _ if bind => from_kernel || destination == Path::new("/dev/shm"),
        Some("tmpfs") => destination.starts_with("/dev"),
        _ => true,
    }
}

/// FNV-1a: identifiers derived from the container's have to be stable, not secret.
fn digest(id: &str) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    id.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// RFC 9562 version 8: the layout is ours.
fn uuid(digest: u128) -> String {
    let bits = digest & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 52:54:00 is the prefix that QEMU's guests have by custom.
fn mac(digest: u128) -> String {
    let [a, b, c, ..] = digest.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
