//! The layouts of crun's structs that are known. Versions say nothing, as distributions patch theirs: a layout is chosen
//! by proof.

use std::mem::offset_of;

use super::peek::peek;
use super::sys::{crun_linux, crun_linux_with_net_devices, crun_linux_without_net_devices, crun_resources};

/// Where the bits are that say whether a member was present in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Each behind its member.
    Interleaved,
    /// All behind the last member.
    Trailing,
}

/// A layout of all that `linux` points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the pointer to the resources in `linux`.
    pub resources: usize,
    /// In device rules and in limits of memory.
    pub present: Present,
}

/// All of them, one more for each change.
pub const LAYOUTS: [Layout; 3] = [
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Interleaved },
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Trailing },
    Layout { resources: offset_of!(crun_linux_with_net_devices, resources), present: Present::Trailing },
];

impl Layout {
    /// The pointer to the resources. `None`: there is no such `linux`.
    pub fn resources(&self, linux: *const crun_linux) -> Option<*mut crun_resources> {
        peek(linux.wrapping_byte_add(self.resources).cast())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sys::*;
    use super::*;

    #[test]
    fn layouts_are_those_of_the_versions_named() {
        assert_eq!((offset_of!(crun_config, mounts), offset_of!(crun_config, linux_)), (40, 72));
        assert_eq!((offset_of!(crun_process, cwd), offset_of!(crun_process, env_len)), (32, 48));
        let linux =
            [offset_of!(crun_linux_without_net_devices, resources), offset_of!(crun_linux_with_net_devices, resources)];
        assert_eq!((linux, size_of::<crun_mount>()), ([64, 72], 80));
        assert_eq!(offset_of!(crun_device_rule_interleaved, allow_present), 1);
        assert_eq!(offset_of!(crun_device_rule_interleaved, minor_present), 40);
        assert_eq!(offset_of!(crun_device_rule_interleaved, access), 48);
        assert_eq!(size_of::<crun_device_rule_interleaved>(), 64);
        assert_eq!(offset_of!(crun_device_rule_trailing, access), 32);
        assert_eq!((offset_of!(crun_device_rule_trailing, present), size_of::<crun_device_rule_trailing>()), (48, 56));
        assert_eq!((offset_of!(crun_resources, cpu), offset_of!(crun_resources, memory)), (40, 64));
        assert_eq!((offset_of!(crun_memory_interleaved, limit), offset_of!(crun_memory_interleaved, swap)), (32, 64));
        assert_eq!(offset_of!(crun_memory_interleaved, disable_oom_killer), 89);
        assert_eq!(offset_of!(crun_memory_interleaved, check_before_update_present), 94);
        assert_eq!(size_of::<crun_memory_interleaved>(), 104);
        assert_eq!((offset_of!(crun_memory_trailing, limit), offset_of!(crun_memory_trailing, swap)), (16, 32));
        assert_eq!((offset_of!(crun_memory_trailing, present), size_of::<crun_memory_trailing>()), (64, 72));
    }
}
