//! CPUs and memory of the VM.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::request::Request;

use super::{Accelerator, Firmware};

/// Guest memory without `--memory`, bytes.
pub const DEFAULT_MEMORY: u64 = 2 << 30;
/// Least guest memory under BIOS, bytes: with less, no kernel starts.
pub const LEAST_MEMORY: u64 = 32 << 20;
/// Below this a UEFI hangs without a word, bytes.
const LEAST_MEMORY_UEFI: u64 = 64 << 20;
/// Size of QEMU's translation cache, bytes. QEMU's default is an eighth of the host's memory, up to 1 GiB. Booting a
/// Debian guest with cloud-init fills 230 MiB, a guest with only busybox 70 MiB; a full cache is emptied.
pub const TRANSLATION_CACHE: u64 = 256 << 20;

const MIB: u64 = 1 << 20;

/// Interrupts cannot be sent to more virtual CPUs without an IOMMU in the VM: libvirt refuses.
const MOST_VCPUS: u32 = 255;

pub(super) fn vcpus(request: &Request, host: &Host) -> Result<u32> {
    let allowed = match &request.cpuset {
        Some(list) => {
            cpuset_len(list).ok_or_else(|| Error::new(format!("--cpuset-cpus {list}"), "not a list of CPUs"))?
        }
        None => host.cpus,
    };
    // Engines refuse more CPUs than the host has, so the float is small and positive.
    let vcpus = request.cpus.map_or(allowed.min(MOST_VCPUS), |cpus| cpus.ceil() as u32).max(1);
    if vcpus > MOST_VCPUS {
        return Err(
            Error::new("--cpus", format!("{vcpus} are too many for a VM")).hint(format!("{MOST_VCPUS} at most"))
        );
    }
    Ok(vcpus)
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

/// Guest memory, and the amount by which the container's limit is raised for it, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub guest: u64,
    pub raise: u64,
}

/// The guest gets all of `--memory` if the container's limit can be raised by `overhead`, QEMU's part. If a limit above
/// the container would still hold, and in a Kubernetes pod, whose limit is the sum of its containers', QEMU's part is
/// taken from the guest's memory.
pub(super) fn memory(
    request: &Request,
    host: &Host,
    firmware: &Firmware,
    overhead: impl Fn(u64) -> u64,
    warnings: &mut Vec<Error>,
) -> Result<Memory> {
    let wanted = request.memory.unwrap_or(DEFAULT_MEMORY);
    let least = least_memory(wanted, firmware)?;
    let above = host.memory_above.unwrap_or(u64::MAX);
    let bound = match request.memory {
        Some(limit) if request.in_kubernetes || above - limit.min(above) < overhead(limit) => limit.min(above),
        None if above < wanted.saturating_add(overhead(wanted)) => above,
        limit => return Ok(Memory { guest: wanted, raise: limit.map_or(0, &overhead) }),
    };
    // QEMU's part grows with the guest's, so this is a little too much.
    let qemus = overhead(wanted.min(bound));
    let guest = bound.saturating_sub(qemus) / MIB * MIB;
    let whose = if request.in_kubernetes { "a pod's" } else { "one above the container's" };
    if guest < least {
        let why = format!(
            "{} MiB, of which QEMU needs {}, and the limit, {whose}, is not to be raised",
            bound >> 20,
            qemus >> 20
        );
        return Err(Error::new("--memory", why).hint(format!("at least {}m", (least + overhead(least) + MIB) >> 20)));
    }
    let why = format!("the guest has {} of {} MiB", guest >> 20, wanted >> 20);
    let hint = format!("the limit, {whose}, is not to be raised by what QEMU needs");
    warnings.push(Error::new("--memory", why).hint(hint));
    Ok(Memory { guest, raise: 0 })
}

/// The least memory for a guest, unless `wanted` is less.
fn least_memory(wanted: u64, firmware: &Firmware) -> Result<u64> {
    let (least, what) = match firmware {
        Firmware::Bios => (LEAST_MEMORY, "a VM"),
        Firmware::Uefi(_) => (LEAST_MEMORY_UEFI, "a VM with UEFI"),
    };
    if wanted < least {
        let why = format!("{} MiB is too little for {what}", wanted >> 20);
        return Err(Error::new("--memory", why).hint(format!("at least {}m", least >> 20)));
    }
    Ok(least)
}

/// Memory that the container needs beside the guest's, bytes: an upper bound, so that the kernel never kills a QEMU
/// whose guest uses all the memory it was given. `shares` is the number of shared directories.
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

#[cfg(test)]
mod tests {
    use super::super::tests::decide;
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_limit_that_cannot_be_raised_is_the_vms_with_all_that_belongs_to_it() {
        let pod = |limit| format!("--memory: {limit} (the limit, a pod's, is not to be raised by what QEMU needs)");
        let above = |limit| {
            format!("--memory: {limit} (the limit, one above the container's, is not to be raised by what QEMU needs)")
        };
        let little = "--memory: 256 MiB, of which QEMU needs 242, and the limit, a pod's, is not to be raised \
                      (at least 274m)";
        // The container's limit, whether Kubernetes set it, the limit of the cgroups above, and the guest's memory.
        for (limit, in_kubernetes, bound, want) in [
            (Some(GIB), false, None, Ok((GIB, 245, None))),
            (Some(GIB), false, Some(2 * GIB), Ok((GIB, 245, None))),
            (Some(GIB), false, Some(GIB), Ok((779 * MIB, 0, Some(above("the guest has 779 of 1024 MiB"))))),
            (Some(2 * GIB), false, Some(GIB), Ok((779 * MIB, 0, Some(above("the guest has 779 of 2048 MiB"))))),
            (Some(GIB), true, None, Ok((779 * MIB, 0, Some(pod("the guest has 779 of 1024 MiB"))))),
            (Some(GIB), true, Some(4 * GIB), Ok((779 * MIB, 0, Some(pod("the guest has 779 of 1024 MiB"))))),
            (Some(256 * MIB), true, None, Err(little.to_string())),
            (None, false, Some(4 * GIB), Ok((2 * GIB, 0, None))),
            (None, true, None, Ok((2 * GIB, 0, None))),
            (None, true, Some(GIB), Ok((779 * MIB, 0, Some(pod("the guest has 779 of 2048 MiB"))))),
        ] {
            let plan = decide(|r, h, _| (r.memory, r.in_kubernetes, h.memory_above) = (limit, in_kubernetes, bound));
            let got = plan.map(|p| (p.memory, p.memory_overhead >> 20, p.warnings.first().map(Error::to_string)));
            assert_eq!(got.map_err(|e| e.to_string()), want, "{limit:?} {in_kubernetes} {bound:?}");
        }
    }

    #[test]
    fn what_is_left_is_enough_for_qemu() {
        for limit in (512..8192).step_by(100).map(|mib| mib * MIB) {
            let plan = decide(|r, _, _| (r.memory, r.in_kubernetes, r.options.emulated) = (Some(limit), true, true));
            let Ok(plan) = plan else { continue };
            let needs = plan.memory + overhead(plan.memory, plan.vcpus, plan.accelerator, &plan.firmware, 0);
            assert!(plan.memory >= LEAST_MEMORY && needs <= limit, "{} of {limit}", plan.memory);
        }
    }

    #[test]
    fn no_more_virtual_cpus_than_libvirt_takes() {
        let vcpus = |cpus, own, set: Option<&str>| {
            decide(|r, h, _| (r.cpus, h.cpus, r.cpuset) = (cpus, own, set.map(str::to_string)))
                .map(|plan| plan.vcpus)
                .map_err(|e| e.to_string())
        };
        for (own, set) in [(255, None), (256, None), (384, None), (384, Some("0-299"))] {
            assert_eq!(vcpus(None, own, set), Ok(255), "{own} {set:?}");
        }
        assert_eq!(vcpus(Some(254.5), 384, None), Ok(255));
        let refused = "--cpus: 256 are too many for a VM (255 at most)";
        assert_eq!(vcpus(Some(255.5), 384, None), Err(refused.into()));
    }
}
