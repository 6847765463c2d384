//! SELinux: whether it is there, and what it lets containers do.

use std::fs;
use std::path::Path;

/// Where the kernel shows it.
pub(super) const ROOT: &str = "/sys/fs/selinux";
/// What lets containers use other devices than `/dev/kvm`: the tap's is one.
pub(super) const DEVICES: &str = "setsebool -P container_use_devices on";

/// The state of SELinux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selinux {
    /// It is not there.
    Off,
    /// It writes down what it would forbid.
    Permissive,
    /// It forbids.
    Enforcing {
        /// Containers may use devices; also where the policy does not know the question.
        devices: bool,
    },
}

impl Selinux {
    /// Looks below `root`, as a rule `/sys/fs/selinux`.
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

    /// What an administrator does to let containers use devices.
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
