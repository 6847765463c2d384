//! SELinux: whether it is active, and what it permits to containers.

use std::fs;
use std::path::Path;

/// Path at which the kernel shows SELinux.
pub(super) const ROOT: &str = "/sys/fs/selinux";
/// Command that lets containers use devices other than `/dev/kvm`, such as the tap's.
pub(super) const DEVICES: &str = "setsebool -P container_use_devices on";

/// The state of SELinux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selinux {
    /// Not present.
    Off,
    /// Logs what it would deny.
    Permissive,
    /// Denies.
    Enforcing {
        /// Containers may use devices; also true if the policy has no such setting.
        devices: bool,
    },
}

impl Selinux {
    /// Reads the state below `root`, usually `/sys/fs/selinux`.
    pub fn look(root: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(root.join(name)).ok();
        match read("enforce") {
            None => Self::Off,
            Some(text) if text.trim() != "1" => Self::Permissive,
            // The value now, and the one that is pending.
            Some(_) => Self::Enforcing {
                devices: read("booleans/container_use_devices").is_none_or(|text| text.trim_start().starts_with('1')),
            },
        }
    }

    /// The state of this host's.
    pub fn here() -> Self {
        Self::look(Path::new(ROOT))
    }

    /// Command by which an administrator lets containers use devices.
    pub fn devices_hint() -> &'static str {
        DEVICES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Selinux::look(dir.path()), Selinux::Off);
        fs::write(dir.path().join("enforce"), "0").unwrap();
        assert_eq!(Selinux::look(dir.path()), Selinux::Permissive);
        fs::write(dir.path().join("enforce"), "1").unwrap();
        assert_eq!(Selinux::look(dir.path()), Selinux::Enforcing { devices: true });
        fs::create_dir(dir.path().join("booleans")).unwrap();
        for (text, devices) in [("0 0", false), ("1 1\n", true)] {
            fs::write(dir.path().join("booleans/container_use_devices"), text).unwrap();
            assert_eq!(Selinux::look(dir.path()), Selinux::Enforcing { devices });
        }
    }
}
