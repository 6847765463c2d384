//! The host's PCI devices in the domain. libvirt binds none to another driver: `managed='no'`.

use std::io;

use super::xml::Xml;
use crate::host::pci::Address;
use crate::plan::Plan;

pub(super) fn hostdevs(xml: &mut Xml, plan: &Plan) -> io::Result<()> {
    plan.hostdevs.iter().try_for_each(|device| match &device.address {
        Address::Pci { domain, bus, slot, function } => {
            let (domain, bus) = (format!("{domain:#06x}"), format!("{bus:#04x}"));
            let (slot, function) = (format!("{slot:#04x}"), format!("{function:#x}"));
            let attributes = [("domain", &*domain), ("bus", &bus), ("slot", &slot), ("function", &function)];
            xml.parent("hostdev", &[("mode", "subsystem"), ("type", "pci"), ("managed", "no")], |xml| {
                xml.parent("source", &[], |xml| xml.empty("address", &attributes))
            })
        }
        Address::Mdev(uuid) => {
            let kind = [("mode", "subsystem"), ("type", "mdev"), ("model", "vfio-pci"), ("managed", "no")];
            xml.parent("hostdev", &kind, |xml| xml.parent("source", &[], |xml| xml.empty("address", &[("uuid", uuid)])))
        }
    })
}
