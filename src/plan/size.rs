//! How large the VM is.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::request::Request;

use super::{Accelerator, Firmware};

/// Guest memory without `--memory`, bytes.
pub const DEFAULT_MEMORY: u64 = 2 << 30;
/// Below this a BIOS gets as far as no kernel, bytes.
pub const LEAST_MEMORY: u64 = 32 << 20;
/// Below this a UEFI hangs without a word, bytes.
const LEAST_MEMORY_UEFI: u64 = 64 << 20;
/// What QEMU keeps of the guest's code in translation, bytes. Its own default is an eighth of the host's memory, up to
/// 1 GiB. Booting a Debian guest with cloud-init fills 230 MiB, one with busybox alone 70 MiB; when it is full, QEMU
/// begins again with an empty one.
pub const TRANSLATION_CACHE: u64 = 256 << 20;

const MIB: u64 = 1 << 20;

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

pub(super) fn memory(request: &Request, firmware: &Firmware) -> Result<u64> {
    let memory = request.memory.unwrap_or(DEFAULT_MEMORY);
    let (least, what) = match firmware {
        Firmware::Bios => (LEAST_MEMORY, "a VM"),
        Firmware::Uefi(_) => (LEAST_MEMORY_UEFI, "a VM with UEFI"),
    };
    if memory < least {
        let why = format!("{} MiB is too little for {what}", memory >> 20);
        return Err(Error::new("--memory", why).hint(format!("at least {}m", least >> 20)));
    }
    Ok(memory)
}

/// Memory that the container needs beside the guest's, bytes: an upper bound, so that the kernel never has to kill a
/// QEMU whose guest uses all that it was promised. `shares` is the number of directories that are shared with the guest.
///
/// Measured on QEMU 7.2 and libvirt 9.0: the supervisor with libvirt has 4 MiB of its own, QEMU 30 to 70 MiB beside the
/// guest's memory and its translation cache, a master connection of ssh 2 MiB and each `podman exec` 4 MiB.
pub(super) fn overhead(memory: u64, vcpus: u32, accelerator: Accelerator, firmware: &Firmware, shares: u64) -> u64 {
    let vcpus = u64::from(vcpus);
    // QEMU's own, the supervisor's and some executions'.
    let processes = 96 * MIB;
    // At most 32 MiB of tables for the overlay and as many for the image, by QEMU's default.
    let qcow2 = 64 * MIB;
    // Pages of files under way to the disk: the kernel gives them up, though not at once.
    let page_cache = 64 * MIB;
    // The pages that map the guest's memory into QEMU, and with KVM into the guest: 8 bytes for 4 KiB each.
    let page_tables = memory / 256;
    let firmware = match firmware {
        Firmware::Bios => MIB,
        Firmware::Uefi(_) => 8 * MIB,
    };
    let translation = match accelerator {
        Accelerator::Kvm => 0,
        // The cache, what says where in it a piece of code is, and for each virtual CPU, for each page that the guest
        // has touched of late, 64 bytes that say where it is.
        Accelerator::Tcg => TRANSLATION_CACHE + TRANSLATION_CACHE / 8 + vcpus * memory / 64,
    };
    // A process with buffers, which maps the guest's memory too.
    let shares = shares * (32 * MIB + memory / 512);
    processes + qcow2 + page_cache + page_tables + firmware + translation + shares + vcpus * 4 * MIB
}
