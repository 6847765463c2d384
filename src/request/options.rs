//! The options that follow the image: one table for the parser, the annotations, `--help` and the documentation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::error::Result;
use crate::host::image::Format;
use crate::request::blockdev::{self, Blockdev};
use crate::request::ports::{self, Port};
use crate::request::values::{bytes, firmware, switch, timeout};

/// Prefix of the annotations that carry options.
pub const ANNOTATION_PREFIX: &str = "run.oci.qemu.";

/// The values of options and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `--blockdev`.
    pub blockdevs: Vec<Blockdev>,
    /// `--cloud-init`: a NoCloud directory.
    pub cloud_init: Option<PathBuf>,
    /// `--disk-size`: bytes.
    pub disk_size: Option<u64>,
    /// `--emulated`: TCG even where KVM is usable.
    pub emulated: bool,
    /// `--firmware`.
    pub firmware: FirmwareChoice,
    /// `--format`: the image's format, declared rather than looked at.
    pub format: Option<Format>,
    /// `--ignition`: a configuration file.
    pub ignition: Option<PathBuf>,
    /// `--merge-libvirt-xml`: a file.
    pub merge_libvirt_xml: Option<PathBuf>,
    /// `--password`: the default user's.
    pub password: Option<String>,
    /// `--password-file`: a file with it.
    pub password_file: Option<PathBuf>,
    /// `--persistent`: the image itself takes the writes.
    pub persistent: bool,
    /// `--port`.
    pub ports: Vec<Port>,
    /// `--print-libvirt-xml`.
    pub print_libvirt_xml: bool,
    /// `--ssh-key`: a file with public keys.
    pub ssh_key: Option<PathBuf>,
    /// `--timeout`: seconds.
    pub timeout: Option<u64>,
    /// `--vfio-pci`: whole PCI devices, as paths below /sys.
    pub vfio_pci: Vec<PathBuf>,
    /// `--vfio-pci-mdev`: mediated devices, as paths below /sys.
    pub vfio_pci_mdev: Vec<PathBuf>,
    /// Names of the options that are in force by an annotation.
    pub annotations: BTreeSet<&'static str>,
}

/// The value of `--firmware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirmwareChoice {
    /// BIOS where the disk can boot so, else UEFI.
    #[default]
    Auto,
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// A row of the option table.
pub struct OptionSpec {
    /// Name without the dashes. The annotation is [`ANNOTATION_PREFIX`] and the name; an option that may be given more
    /// than once also accepts that with a dot and any name.
    pub name: &'static str,
    /// Name of the value; `None` for a switch.
    pub argument: Option<&'static str>,
    /// Meaning, in one line.
    pub meaning: &'static str,
    /// Behaviour without the option.
    pub default: &'static str,
    /// Whether the option may be given more than once; values add up.
    pub repeat: bool,
    /// Takes the value (`true` or `false` for a switch) in.
    pub(super) set: fn(&mut Options, &str) -> Result<()>,
}

impl OptionSpec {
    /// Note in the lists for options that may be given more than once.
    fn again(&self) -> &'static str {
        if self.repeat { " May be given more than once." } else { "" }
    }
}

/// Every option there is, by name.
pub const TABLE: &[OptionSpec] = &[
    OptionSpec {
        name: "blockdev",
        argument: Some("source=PATH,target=PATH,format=raw|qcow2[,readonly=on]"),
        meaning: "Disk image that -v FILE:PATH put at source, as a disk that the guest finds at target.",
        default: "none",
        repeat: true,
        set: |o, v| {
            o.blockdevs.push(blockdev::parse(v)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "cloud-init",
        argument: Some("DIR"),
        meaning: "NoCloud directory (see PATHS) with user-data, meta-data, vendor-data and network-config, added to ours.",
        default: "our own data alone",
        repeat: false,
        set: |o, v| {
            o.cloud_init = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "disk-size",
        argument: Some("N[K|M|G|T]"),
        meaning: "Size of the VM's disk, no less than the image's; the guest grows what is on it.",
        default: "the image's",
        repeat: false,
        set: |o, v| {
            o.disk_size = Some(bytes("disk-size", v)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "emulated",
        argument: None,
        meaning: "Emulate the CPU (TCG) even where KVM is usable.",
        default: "KVM where it is usable",
        repeat: false,
        set: |o, v| {
            o.emulated = switch("emulated", v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "firmware",
        argument: Some("auto|bios|uefi"),
        meaning: "Firmware of the VM; auto takes BIOS where the disk can boot so, else UEFI.",
        default: "auto",
        repeat: false,
        set: |o, v| {
            o.firmware = firmware(v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "format",
        argument: Some("qcow2|raw"),
        meaning: "Format of the VM image.",
        default: "found from the image's header",
        repeat: false,
        set: |o, v| {
            o.format = Some(v.parse()?);
            Ok(())
        },
    },
    OptionSpec {
        name: "ignition",
        argument: Some("FILE"),
        meaning: "Ignition configuration (see PATHS), specification 3, to which ours is added.",
        default: "our own configuration alone",
        repeat: false,
        set: |o, v| {
            o.ignition = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "merge-libvirt-xml",
        argument: Some("FILE"),
        meaning: "libvirt domain document (see PATHS) merged into ours; a policy has to allow it, see FILES.",
        default: "none",
        repeat: false,
        set: |o, v| {
            o.merge_libvirt_xml = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "password",
        argument: Some("PASSWORD"),
        meaning: "Password of the image's default user, by cloud-init or Ignition; podman inspect shows it.",
        default: "none",
        repeat: false,
        set: |o, v| {
            o.password = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "password-file",
        argument: Some("FILE"),
        meaning: "File (see PATHS) whose first line is that password; a policy has to allow it, see FILES.",
        default: "none",
        repeat: false,
        set: |o, v| {
            o.password_file = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "persistent",
        argument: None,
        meaning: "The guest writes to the image itself, a file of a --rootfs directory; a raw image needs --format raw.",
        default: "writes go to an overlay that ends with the container",
        repeat: false,
        set: |o, v| {
            o.persistent = switch("persistent", v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "port",
        argument: Some("N[/tcp|/udp],…"),
        meaning: "Ports that lead to the guest where the container shares its network (pods, --network container:, host).",
        default: "none there; in a network namespace of its own the guest has every port anyway",
        repeat: false,
        set: |o, v| {
            o.ports = ports::parse(v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "print-libvirt-xml",
        argument: None,
        meaning: "Print the libvirt domain and end, without a VM.",
        default: "the VM runs",
        repeat: false,
        set: |o, v| {
            o.print_libvirt_xml = switch("print-libvirt-xml", v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "ssh-key",
        argument: Some("FILE"),
        meaning: "File (see PATHS) with public keys that may log in besides the container's own.",
        default: "none",
        repeat: false,
        set: |o, v| {
            o.ssh_key = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "timeout",
        argument: Some("SECONDS"),
        meaning: "How long podman exec waits for the guest's sshd, 1 to 86400.",
        default: "300",
        repeat: false,
        set: |o, v| {
            o.timeout = Some(timeout(v)?);
            Ok(())
        },
    },
    OptionSpec {
        name: "vfio-pci",
        argument: Some("SYSFS"),
        meaning: "Host PCI device that is bound to vfio-pci, as /sys/bus/pci/devices/0000:01:00.0.",
        default: "none",
        repeat: true,
        set: |o, v| {
            o.vfio_pci.push(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "vfio-pci-mdev",
        argument: Some("SYSFS"),
        meaning: "Mediated host PCI device, as /sys/bus/mdev/devices/UUID.",
        default: "none",
        repeat: true,
        set: |o, v| {
            o.vfio_pci_mdev.push(v.into());
            Ok(())
        },
    },
];

/// The table as `--help` prints it.
pub fn help() -> String {
    TABLE.iter().fold(String::new(), |mut text, spec| {
        let argument = spec.argument.map(|a| format!(" {a}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let (again, default) = (spec.again(), spec.default);
        let _ = writeln!(text, "  --{}{argument}\n      {}{again} Default: {default}.", spec.name, spec.meaning);
        text
    })
}

#[cfg(test)]
mod tests;
