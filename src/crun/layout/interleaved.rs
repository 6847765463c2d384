//! Structs up to crun 1.8.4: each "present" bit follows its member.

use super::limits::{MemoryStruct, flag, member};
use crate::crun::alloc::{new_struct, string};
use crate::crun::config;
use crate::crun::peek::{is_text, peek};
use crate::crun::sys::{crun_device_rule_interleaved, crun_memory_interleaved};
use crate::edits;
use crate::edits::memory_limits::Memory;
use crate::error::Result;

/// A "present" bit. The other seven bits of its byte are undefined.
fn bit(byte: u8) -> bool {
    byte & 1 == 1
}

pub fn is_rule(at: *const crun_device_rule_interleaved, want: &config::DeviceRule) -> bool {
    let Some(got) = peek(at) else { return false };
    got.allow == u8::from(want.allow.unwrap_or(false))
        && bit(got.allow_present) == want.allow.is_some()
        && is_text(got.type_, want.kind.as_deref())
        && (got.major, bit(got.major_present)) == (want.major.unwrap_or(0), want.major.is_some())
        && (got.minor, bit(got.minor_present)) == (want.minor.unwrap_or(0), want.minor.is_some())
        && is_text(got.access, want.access.as_deref())
}

pub fn new_rule(rule: &edits::DeviceRule) -> Result<*mut crun_device_rule_interleaved> {
    let at = new_struct::<crun_device_rule_interleaved>()?;
    let value = crun_device_rule_interleaved {
        allow: 1,
        allow_present: 1,
        type_: string(rule.kind().as_bytes())?,
        major: rule.major,
        major_present: 1,
        minor: rule.minor,
        minor_present: 1,
        access: string(rule.access.as_bytes())?,
        ..Default::default()
    };
    // SAFETY: `at` is a new block that is large enough for the struct.
    unsafe { at.write(value) };
    Ok(at)
}

pub fn memory(at: *mut crun_memory_interleaved) -> Option<MemoryStruct> {
    let got = peek(at)?;
    let is = Memory {
        kernel: member(got.kernel, bit(got.kernel_present))?,
        kernel_tcp: member(got.kernel_tcp, bit(got.kernel_tcp_present))?,
        limit: member(got.limit, bit(got.limit_present))?,
        reservation: member(got.reservation, bit(got.reservation_present))?,
        swap: member(got.swap, bit(got.swap_present))?,
        swappiness: member(got.swappiness, bit(got.swappiness_present))?,
        disable_oom_killer: flag(got.disable_oom_killer, bit(got.disable_oom_killer_present))?,
        use_hierarchy: flag(got.use_hierarchy, bit(got.use_hierarchy_present))?,
        check_before_update: flag(got.check_before_update, bit(got.check_before_update_present))?,
    };
    // SAFETY: the whole struct has been read, so the addresses of its members are within it.
    let (limit, swap) = unsafe { (&raw mut (*at).limit, &raw mut (*at).swap) };
    Some(MemoryStruct { is, limit, swap })
}
