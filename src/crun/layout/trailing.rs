//! Structs since crun 1.8.5: all "present" bits follow the last member.

use super::limits::{LEAST, MemoryStruct, flag, member};
use crate::crun::alloc::{new_struct, string};
use crate::crun::config;
use crate::crun::peek::{is_text, peek};
use crate::crun::sys::{crun_device_rule_trailing, crun_memory_trailing};
use crate::edits;
use crate::edits::memory_limits::Memory;
use crate::error::Result;

/// The bits of a device rule: allow, major, minor.
const RULE_BITS: u8 = 0b111;

pub fn is_rule(at: *const crun_device_rule_trailing, want: &config::DeviceRule) -> bool {
    let Some(got) = peek(at) else { return false };
    let present =
        u8::from(want.allow.is_some()) | u8::from(want.major.is_some()) << 1 | u8::from(want.minor.is_some()) << 2;
    got.allow == u8::from(want.allow.unwrap_or(false))
        && is_text(got.type_, want.kind.as_deref())
        && got.major == want.major.unwrap_or(0)
        && got.minor == want.minor.unwrap_or(0)
        && is_text(got.access, want.access.as_deref())
        && got.present & RULE_BITS == present
}

pub fn new_rule(rule: &edits::DeviceRule) -> Result<*mut crun_device_rule_trailing> {
    let at = new_struct::<crun_device_rule_trailing>()?;
    let value = crun_device_rule_trailing {
        allow: 1,
        type_: string(rule.kind().as_bytes())?,
        major: rule.major,
        minor: rule.minor,
        access: string(rule.access.as_bytes())?,
        present: RULE_BITS,
        ..Default::default()
    };
    // SAFETY: `at` is a new block that is large enough for the struct.
    unsafe { at.write(value) };
    Ok(at)
}

pub fn memory(at: *mut crun_memory_trailing) -> Option<MemoryStruct> {
    let got = peek(at)?;
    // In an interleaved struct this would be a "present" bit.
    if (1..LEAST as usize).contains(&(got.residual as usize)) {
        return None;
    }
    let bit = |n: usize| got.present[n / 8] >> (n % 8) & 1 == 1;
    let is = Memory {
        kernel: member(got.kernel, bit(0))?,
        kernel_tcp: member(got.kernel_tcp, bit(1))?,
        limit: member(got.limit, bit(2))?,
        reservation: member(got.reservation, bit(3))?,
        swap: member(got.swap, bit(4))?,
        swappiness: member(got.swappiness, bit(5))?,
        disable_oom_killer: flag(got.disable_oom_killer, bit(6))?,
        use_hierarchy: flag(got.use_hierarchy, bit(7))?,
        check_before_update: flag(got.check_before_update, bit(8))?,
    };
    // SAFETY: the whole struct has been read, so the addresses of its members are within it.
    let (limit, swap) = unsafe { (&raw mut (*at).limit, &raw mut (*at).swap) };
    Some(MemoryStruct { is, limit, swap })
}
