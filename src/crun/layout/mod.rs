//! The known layouts of crun's structs: a row of [`LAYOUTS`] for each, and a file for each arrangement of the "present"
//! bits. A version number does not identify a layout, because distributions patch their crun: the layout is the one in
//! which the structs read as config.json.
//!
//! A new crun needs a row here, structs in `include/crun.h`, and their offsets in `tests/abi/layouts`.

mod interleaved;
mod limits;
mod trailing;

use std::mem::offset_of;

use libc::c_void;

use super::config;
use super::peek::peek;
use super::sys::{crun_linux, crun_linux_with_net_devices, crun_linux_without_net_devices, crun_resources};
use crate::edits;
use crate::error::Result;

pub use self::limits::{LEAST, MemoryStruct};

/// Place of the bits that tell whether a member was present in the JSON, in device rules and memory limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Each after its member.
    Interleaved,
    /// All after the last member.
    Trailing,
}

/// One build's layout of everything that `linux` points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Offset in bytes of the pointer to the resources in `linux`.
    pub resources: usize,
    /// Place of the "present" bits.
    pub present: Present,
}

/// All known layouts, in the order in which crun had them.
pub static LAYOUTS: [Layout; 3] = [
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Interleaved },
    Layout { resources: offset_of!(crun_linux_without_net_devices, resources), present: Present::Trailing },
    Layout { resources: offset_of!(crun_linux_with_net_devices, resources), present: Present::Trailing },
];

impl Layout {
    /// The pointer to the resources; `None` if `linux` is not readable there.
    pub fn resources(&self, linux: *const crun_linux) -> Option<*mut crun_resources> {
        peek(linux.wrapping_byte_add(self.resources).cast())
    }

    /// Whether the device rule at `at` is `want`.
    pub fn is_rule(&self, at: *const c_void, want: &config::DeviceRule) -> bool {
        match self.present {
            Present::Interleaved => interleaved::is_rule(at.cast(), want),
            Present::Trailing => trailing::is_rule(at.cast(), want),
        }
    }

    /// A device rule that crun frees.
    pub fn new_rule(&self, rule: &edits::DeviceRule) -> Result<*mut c_void> {
        match self.present {
            Present::Interleaved => interleaved::new_rule(rule).map(<*mut _>::cast),
            Present::Trailing => trailing::new_rule(rule).map(<*mut _>::cast),
        }
    }

    /// The struct of memory limits at `at`; `None` if a member that is not present has a value.
    pub fn memory(&self, at: *mut c_void) -> Option<MemoryStruct> {
        match self.present {
            Present::Interleaved => interleaved::memory(at.cast()),
            Present::Trailing => trailing::memory(at.cast()),
        }
    }
}
