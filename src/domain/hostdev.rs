//! Host PCI devices in the domain. libvirt binds none to another driver: `managed='no'`.

use super::tree::Element;
use crate::host::pci::Address;
use crate::plan::Plan;

pub(super) fn hostdevs(plan: &Plan) -> impl Iterator<Item = Element> {
    plan.hostdevs.iter().map(|device| {
        let (device, address) = match &device.address {
            Address::Pci { domain, bus, slot, function } => {
                let (domain, bus) = (format!("{domain:#06x}"), format!("{bus:#04x}"));
                let (slot, function) = (format!("{slot:#04x}"), format!("{function:#x}"));
                let address = [("domain", &*domain), ("bus", &bus), ("slot", &slot), ("function", &function)];
                (vec![("type", "pci")], Element::new("address", &address))
            }
            Address::Mdev(uuid) => {
                (vec![("type", "mdev"), ("model", "vfio-pci")], Element::new("address", &[("uuid", uuid)]))
            }
        };
        let attributes = [vec![("mode", "subsystem")], device, vec![("managed", "no")]].concat();
        Element::new("hostdev", &attributes).with([Element::parent("source", [address])])
    })
}
