//! Which of the host's PCI devices the guest gets.

use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::pci::Device;
use crate::request::Request;

/// libvirt's rule of thumb for what a guest with such devices locks beyond its memory, bytes: it sets the limit itself
/// and fails where it has no right to.
const SLACK: u64 = 1 << 30;

pub(super) fn hostdevs(request: &Request, host: &Host, memory: u64) -> Result<Vec<Device>> {
    let devices = &host.pci;
    for (n, device) in devices.iter().enumerate() {
        if devices[..n].iter().any(|other| other.address == device.address) {
            return Err(Error::new(format!("PCI device {}", device.address.name()), "given twice"));
        }
    }
    let needed = memory.saturating_add(SLACK);
    let allowed = request.memlock.unwrap_or(host.memlock);
    if !devices.is_empty() && allowed < needed {
        let why = format!(
            "a PCI device needs the guest's memory locked, {} MiB with what belongs to it, and {} KiB may be",
            needed >> 20,
            allowed >> 10
        );
        return Err(Error::new("locked memory", why).hint("--ulimit memlock=-1"));
    }
    Ok(devices.clone())
}
