//! The layouts of crun's structs that are known. Versions say nothing, as distributions patch theirs: a layout is chosen
//! by proof.

use std::mem::offset_of;

use super::peek::peek;
use super::sys::{crun_linux, crun_linux_with_net_devices, crun_linux_without_net_devices, crun_resources};

/// Place of the bits that tell whether a member was present in the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Each behind its member.
    Interleaved,
    /// All after the last member.
    Trailing,
}

/// A layout of all that `linux` points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the pointer to the resources in `linux`.
    pub resources: usize,
    /// Place of the bits in device rules and memory limits.
    pub present: Present,
}

/// All known layouts, one for each change.
pub const LAYOUTS: [Layout; 3] = [
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Interleaved },
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Trailing },
    Layout { resources: offset_of!(crun_linux_with_net_devices, resources), present: Present::Trailing },
];

impl Layout {
    /// The pointer to the resources; `None` if `linux` has another layout.
    pub fn resources(&self, linux: *const crun_linux) -> Option<*mut crun_resources> {
        peek(linux.wrapping_byte_add(self.resources).cast())
    }
}
