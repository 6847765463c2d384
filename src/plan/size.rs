//! How large the VM is.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::request::Request;

/// Guest memory without `--memory`, bytes.
pub const DEFAULT_MEMORY: u64 = 2 << 30;
/// Below this no firmware gets as far as a kernel, bytes.
const LEAST_MEMORY: u64 = 32 << 20;

pub(super) fn vcpus(request: &Request, host: &Host) -> Result<u32> {
    let allowed = match &request.cpuset {
        Some(list) => {
            cpuset_len(list).ok_or_else(|| Error::new(format!("--cpuset-cpus {list}"), "not a list of CPUs"))?
        }
        None => host.cpus,
    };
    // Engines refuse more CPUs than the host has, so the float is small and positive.
    Ok(request.cpus.map_or(allowed, |cpus| cpus.ceil() as u32).max(1))
}

/// Counts the CPUs of a list such as `0-3,8`.
fn cpuset_len(list: &str) -> Option<u32> {
    let mut len = 0u32;
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        len = len.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(len)
}

pub(super) fn memory(request: &Request) -> Result<u64> {
    let memory = request.memory.unwrap_or(DEFAULT_MEMORY);
    if memory < LEAST_MEMORY {
        let why = format!("{} MiB is too little for a VM", memory >> 20);
        return Err(Error::new("--memory", why).hint(format!("at least {}m", LEAST_MEMORY >> 20)));
    }
    Ok(memory)
}
