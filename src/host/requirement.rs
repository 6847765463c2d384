//! What distributions' packages have, and where they put it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Something that a distribution's package has.
pub struct Requirement {
    /// What it is.
    pub what: &'static str,
    /// Where distributions put it.
    candidates: &'static [&'static str],
    test: fn(&Path) -> bool,
    /// The package that has it.
    package: &'static str,
}

/// The emulator.
pub const QEMU: Requirement = Requirement {
    what: "QEMU",
    candidates: &["/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"],
    test: is_executable,
    package: "qemu-system-x86 (Debian) or qemu-kvm (Fedora)",
};
/// What libvirt needs to run it.
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
/// What `podman exec` needs.
pub const SSH: Requirement = Requirement {
    what: "ssh",
    candidates: &["/usr/bin/ssh"],
    test: is_executable,
    package: "openssh-client (Debian) or openssh-clients (Fedora)",
};

/// What boots most disks.
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

/// What serves the directories and files that a container was given; not needed without any. Rust's, then C's, which is as old as the QEMU that brought it.
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

pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_names_its_package() {
        let qemu = Requirement { candidates: &["/nowhere/qemu"], package: "qemu-system-x86 (Debian)", ..QEMU };
        let error = qemu.find().unwrap_err();
        assert_eq!(error.to_string(), "QEMU: not installed (install the package qemu-system-x86 (Debian))");
    }
}
