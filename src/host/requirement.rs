//! Programs and files that come with distribution packages, and their paths.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Something that a distribution's package has.
pub struct Requirement {
    /// Name for messages.
    pub what: &'static str,
    /// Paths in the distributions.
    pub(super) candidates: &'static [&'static str],
    pub(super) test: fn(&Path) -> bool,
    /// The package that has it.
    pub(super) package: &'static str,
}

/// Driver that libvirt needs to run QEMU.
pub const DRIVER: Requirement = Requirement {
    what: "libvirt's QEMU driver",
    candidates: &[
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
        "/usr/lib/libvirt/connection-driver/libvirt_driver_qemu.so",
    ],
    test: Path::is_file,
    package: "libvirt-daemon-driver-qemu",
};
/// Client that `podman exec` needs.
pub const SSH: Requirement = Requirement {
    what: "ssh",
    candidates: &["/usr/bin/ssh"],
    test: is_executable,
    package: "openssh-client (Debian) or openssh-clients (Fedora)",
};

/// Firmware that boots most disks.
pub const BIOS: Requirement = Requirement {
    what: "BIOS",
    candidates: &[
        "/usr/share/seabios/bios-256k.bin",
        "/usr/share/qemu/bios-256k.bin",
        "/usr/share/qemu-kvm/bios-256k.bin",
    ],
    test: Path::is_file,
    package: "seabios (Debian) or seabios-bin (Fedora)",
};

/// Program that serves shared directories and files; not needed without any. The Rust version comes first, then the C
/// version, which is as old as the QEMU that it came with.
pub const VIRTIOFSD: Requirement = Requirement {
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

impl Requirement {
    /// Path of the program or file.
    ///
    /// # Errors
    /// It is missing; the error names the package.
    pub fn find(&self) -> Result<&'static str> {
        let found = self.candidates.iter().find(|path| (self.test)(Path::new(path))).copied();
        found
            .ok_or_else(|| Error::new(self.what, "not installed").hint(format!("install the package {}", self.package)))
    }
}

pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::arch::Arch;

    #[test]
    fn what_is_missing_names_its_package() {
        let qemu = Requirement {
            candidates: &["/nowhere/qemu"],
            package: "qemu-system-x86 (Debian)",
            ..Arch::of_host().unwrap().emulator()
        };
        let error = qemu.find().unwrap_err();
        assert_eq!(error.to_string(), "QEMU: not installed (install the package qemu-system-x86 (Debian))");
    }
}
