//! The machine model of each architecture: everything about the domain, the firmware and the emulator that depends on
//! it.

use super::requirement::{Requirement, is_executable};
use crate::error::{Error, Result};

/// One architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Arch {
    /// Name in Rust, libvirt and QEMU's firmware descriptions.
    pub name: &'static str,
    /// libvirt's machine type, which the machines in firmware descriptions contain.
    pub machine: &'static str,
    /// libvirt's features of the machine.
    pub features: &'static [&'static str],
    /// libvirt's type of the serial port that is the console.
    pub serial: &'static str,
    /// libvirt's model of the panic device.
    pub panic: &'static str,
    /// Paths of the emulator in the distributions.
    emulators: &'static [&'static str],
    /// Packages of the emulator.
    package: &'static str,
}

const X86_64: Arch = Arch {
    name: "x86_64",
    machine: "q35",
    features: &["acpi", "apic"],
    serial: "isa-serial",
    panic: "isa",
    emulators: &["/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"],
    package: "qemu-system-x86 (Debian) or qemu-kvm (Fedora)",
};

/// Every architecture whose guests, firmware and devices are known.
const KNOWN: &[&Arch] = &[&X86_64];

impl Arch {
    /// The host's architecture.
    ///
    /// # Errors
    /// It is not known.
    pub fn of_host() -> Result<&'static Self> {
        Self::named(std::env::consts::ARCH)
    }

    /// The emulator.
    pub fn emulator(&self) -> Requirement {
        Requirement { what: "QEMU", candidates: self.emulators, test: is_executable, package: self.package }
    }

    fn named(name: &str) -> Result<&'static Self> {
        let known = KNOWN.iter().copied().find(|arch| arch.name == name);
        known.ok_or_else(|| Error::new("this machine", format!("its CPU is {name}, and VMs run on x86-64 only")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_architectures() {
        assert_eq!(Arch::named("x86_64").unwrap().machine, "q35");
        let error = Arch::named("aarch64").unwrap_err().to_string();
        assert_eq!(error, "this machine: its CPU is aarch64, and VMs run on x86-64 only");
    }
}
