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
