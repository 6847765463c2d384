//! Host PCI devices that can be passed to a guest, as sysfs shows them.
//!
//! Only devices that an administrator has set aside are accepted: mediated devices, which exist for no other purpose,
//! and whole devices that are bound to vfio-pci. The kernel isolates devices by IOMMU groups, so a group is checked as
//! a whole.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::error::{Error, Result};
use crate::host::policy::Policy;
use crate::request::options::Options;

/// The driver that hands whole devices out.
const VFIO_PCI: &str = "vfio-pci";
/// PCI class and subclass of bridges between PCI buses, which share a group with the devices behind them.
const BRIDGE: &str = "0x0604";

/// A device for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Address of the device.
    pub address: Address,
    /// Its IOMMU group.
    pub group: Group,
}

/// Name of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A whole device.
    Pci {
        /// PCI domain.
        domain: u32,
        /// Bus.
        bus: u8,
        /// Slot.
        slot: u8,
        /// Function.
        function: u8,
    },
    /// A mediated device, by its UUID.
    Mdev(String),
}

/// An IOMMU group; QEMU accesses its devices through the group's node in `/dev/vfio`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The node's name is the group's number.
    pub number: u32,
    /// The node's numbers; the kernel chooses them.
    pub major: i64,
    /// See `major`.
    pub minor: i64,
}

/// Finds the devices that were asked for.
///
/// # Errors
/// A device is missing or cannot be passed on, or the policy forbids it.
pub fn find(options: &Options) -> Result<Vec<Device>> {
    if options.vfio_pci.is_empty() && options.vfio_pci_mdev.is_empty() {
        return Ok(Vec::new());
    }
    let policy = Policy::read()?;
    let host = Places { sys: Path::new("/sys"), dev: Path::new("/dev") };
    let whole = options.vfio_pci.iter().map(|path| (WHOLE, path));
    let mediated = options.vfio_pci_mdev.iter().map(|path| (MEDIATED, path));
    let wanted = whole.chain(mediated);
    let allow = |option: &str| policy.allow_vfio(option, options.is_annotation(option.trim_start_matches('-')));
    wanted.map(|(option, path)| allow(option).and_then(|()| host.find(option, path))).collect()
}

const WHOLE: &str = "--vfio-pci";
const MEDIATED: &str = "--vfio-pci-mdev";

/// Mount points of sysfs and devtmpfs.
struct Places<'a> {
    sys: &'a Path,
    dev: &'a Path,
}

impl Places<'_> {
    fn find(&self, option: &str, path: &Path) -> Result<Device> {
        let error = |why: String| Error::new(format!("{option} {}", path.display()), why);
        let (list, which) = if option == WHOLE { ("pci", "0000:01:00.0") } else { ("mdev", "UUID") };
        let form = format!("/sys/bus/{list}/devices/{which}");
        // Checked before anything is read: an option must not reveal what exists elsewhere on the host.
        if !path.starts_with(self.sys) || path.components().any(|part| part.as_os_str() == "..") {
            return Err(error("not a path below /sys".into()).hint(format!("a device is named like {form}")));
        }
        let device = path.canonicalize().map_err(|e| {
            error(reason(&e, "no such device")).hint(format!("/sys/bus/{list}/devices lists the devices"))
        })?;
        if !device.starts_with(self.sys.join("devices")) {
            return Err(error("it does not lead to a device in /sys/devices".into())
                .hint(format!("a device is named like {form}")));
        }
        let address = if option == WHOLE { whole(&device) } else { mediated(&device) };
        let address = address.map_err(|(why, hint)| error(why).hint(hint))?;
        let group = device.join("iommu_group").canonicalize().map_err(|_| {
            error("it is in no IOMMU group, so it could access all of the host's memory".into())
                .hint("switch the IOMMU on: in the firmware, and with intel_iommu=on on the kernel's command line")
        })?;
        let busy = neighbours(&group, &device);
        if !busy.is_empty() {
            let why = format!("its IOMMU group {} has devices that the host uses: {}", name(&group), busy.join(", "));
            return Err(error(why).hint("a group is passed through as a whole: bind them to vfio-pci too"));
        }
        let number: u32 = name(&group).parse().map_err(|_| error(format!("IOMMU group \"{}\"", name(&group))))?;
        self.node(VFIO).map_err(|(why, hint)| error(why).hint(hint))?;
        let (major, minor) = self.node(&number.to_string()).map_err(|(why, hint)| error(why).hint(hint))?;
        Ok(Device { address, group: Group { number, major, minor } })
    }

    /// The numbers of a node of `/dev/vfio`, which has to be usable.
    fn node(&self, name: &str) -> std::result::Result<(i64, i64), Unfit> {
        let path = self.dev.join("vfio").join(name);
        let fails = |e: std::io::Error| {
            let hint = match e.raw_os_error() {
                Some(libc::EBUSY) => "another VM has it",
                Some(libc::EACCES | libc::EPERM) => "the user that runs the VM has to be its owner or in its group",
                _ => "modprobe vfio-pci",
            };
            (format!("/dev/vfio/{name}: {}", reason(&e, "not there")), hint.to_string())
        };
        let metadata = fs::metadata(&path).map_err(fails)?;
        if !metadata.file_type().is_char_device() {
            return Err((format!("/dev/vfio/{name}: not a device"), "modprobe vfio-pci".into()));
        }
        OpenOptions::new().read(true).write(true).open(&path).map_err(fails)?;
        Ok((major(metadata.rdev()) as i64, minor(metadata.rdev()) as i64))
    }
}

/// The node through which groups are joined.
const VFIO: &str = "vfio";

/// Why a device is not fit, and what helps.
type Unfit = (String, String);

/// The address of a whole device that is bound to vfio-pci.
fn whole(device: &Path) -> std::result::Result<Address, Unfit> {
    let id = name(device);
    let parsed = parse(&id).filter(|_| device.join("vendor").is_file() && device.join("class").is_file());
    let Some(address) = parsed else {
        return Err(("not a PCI device".into(), "a device is named like /sys/bus/pci/devices/0000:01:00.0".into()));
    };
    let why = match driver(device) {
        Some(driver) if driver == VFIO_PCI => return Ok(address),
        Some(driver) => format!("the host uses it with the driver {driver}, not {VFIO_PCI}"),
        None => format!("it is not bound to {VFIO_PCI}, nor to any driver"),
    };
    Err((
        why,
        format!(
            "driverctl set-override {id} {VFIO_PCI}; or write {VFIO_PCI} into its driver_override, its address into \
             driver/unbind and into /sys/bus/pci/drivers_probe"
        ),
    ))
}

/// Domain, bus, slot and function as sysfs writes them.
fn parse(id: &str) -> Option<Address> {
    let (rest, function) = id.split_once('.')?;
    let mut parts = rest.split(':');
    let (domain, bus, slot) = (parts.next()?, parts.next()?, parts.next()?);
    let byte = |text| u8::from_str_radix(text, 16).ok();
    let address = Address::Pci {
        domain: u32::from_str_radix(domain, 16).ok()?,
        bus: byte(bus)?,
        slot: byte(slot)?,
        function: byte(function)?,
    };
    parts.next().is_none().then_some(address)
}

/// The address of a mediated device. Which driver has it does not matter: since Linux 5.16 many of the parents bring
/// one of their own in place of vfio_mdev, and no mediated device has another use.
fn mediated(device: &Path) -> std::result::Result<Address, Unfit> {
    let uuid = name(device);
    let Ok(kind) = device.join("mdev_type").canonicalize() else {
        return Err((
            "not a mediated device".into(),
            "one is made by writing a UUID into mdev_supported_types/TYPE/create of a PCI device that can do it".into(),
        ));
    };
    if !is_uuid(&uuid) {
        return Err((format!("\"{uuid}\" is not a UUID"), "the name of a mediated device is one".into()));
    }
    let api = fs::read_to_string(kind.join("device_api")).unwrap_or_default();
    match api.trim() {
        VFIO_PCI => Ok(Address::Mdev(uuid)),
        api => Err((format!("it is a {api} device, not a PCI one"), "only PCI devices can be passed on".into())),
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// The other devices of the group that keep the kernel from handing it out, each with its driver.
fn neighbours(group: &Path, device: &Path) -> Vec<String> {
    let all = fs::read_dir(group.join("devices")).into_iter().flatten().flatten();
    let others = all.filter_map(|entry| entry.path().canonicalize().ok()).filter(|path| path != device);
    let mut busy: Vec<_> = others.filter_map(|path| Some((in_use_by(&path)?, path))).collect();
    busy.sort_by(|a, b| a.1.cmp(&b.1));
    busy.into_iter().map(|(driver, path)| format!("{} ({driver})", name(&path))).collect()
}

/// The driver with which the host uses a device. Bridges forward and have no memory of their own to reach.
fn in_use_by(device: &Path) -> Option<String> {
    let class = fs::read_to_string(device.join("class")).unwrap_or_default();
    // Vendors' variants of vfio-pci are named so: mlx5_vfio_pci.
    let given_up = |driver: &str| driver == "pci-stub" || driver.replace('_', "-").ends_with(VFIO_PCI);
    driver(device).filter(|driver| !given_up(driver) && !class.starts_with(BRIDGE))
}

fn driver(device: &Path) -> Option<String> {
    fs::read_link(device.join("driver")).ok().map(|link| name(&link))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Text of the error, except for ENOENT: podman mistakes the system's text for "command not found".
fn reason(error: &std::io::Error, missing: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => missing.to_string(),
        _ => error.to_string(),
    }
}

impl Address {
    /// Name in sysfs.
    pub fn name(&self) -> String {
        match self {
            Self::Pci { domain, bus, slot, function } => format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"),
            Self::Mdev(uuid) => uuid.clone(),
        }
    }
}

/// The node through which QEMU reaches the kernel's side of VFIO.
pub fn control() -> PathBuf {
    Path::new("/dev/vfio").join(VFIO)
}

impl Group {
    /// Its node.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev/vfio").join(self.number.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests;
