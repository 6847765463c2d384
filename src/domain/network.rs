//! The guest's network card.

use std::io;

use super::xml::Xml;
use crate::network::Ports;
use crate::plan::{Network, Plan};

/// The card on the tap.
pub(super) fn interface(xml: &mut Xml, plan: &Plan) -> io::Result<()> {
    let Network::Tap { name, vhost, ports } = &plan.network else { return Ok(()) };
    xml.parent("interface", &[("type", "ethernet")], |xml| {
        xml.empty("mac", &[("address", &plan.mac)])?;
        xml.empty("target", &[("dev", name), ("managed", "no")])?;
        xml.empty("model", &[("type", "virtio")])?;
        let driver = ("name", if *vhost { "vhost" } else { "qemu" });
        // A tap that is held by somebody else as well is opened for several queues, however many there are.
        match ports {
            Ports::All => xml.empty("driver", &[driver]),
            Ports::Only(_) => xml.empty("driver", &[driver, ("queues", "2")]),
        }?;
        // The firmware would try to boot from the network card's ROM.
        xml.empty("rom", &[("enabled", "no")])
    })
}

/// QEMU's user network by QEMU's own options: libvirt's `<interface type='user'>` cannot forward ports.
pub(super) fn user_network(xml: &mut Xml, plan: &Plan) -> io::Result<()> {
    let Network::User { ssh, ports } = &plan.network else { return Ok(()) };
    // QEMU's default is slirp4netns' too: a caller from there would seem to the guest to be on its own link.
    let mut backend = format!("user,id=user,net=10.0.99.0/24,hostfwd=tcp:{ssh}-:22");
    for port in ports {
        backend.extend(
            port.protocols().map(|protocol| format!(",hostfwd={}::{n}-:{n}", protocol.name(), n = port.number)),
        );
    }
    // libvirt does not know of this card and fills the bus from its low end. No ROM: see the tap's.
    let card = format!("virtio-net-pci,netdev=user,mac={},bus=pcie.0,addr=0x10,romfile=", plan.mac);
    xml.parent("qemu:commandline", &[], |xml| {
        ["-netdev", &backend, "-device", &card].iter().try_for_each(|value| xml.empty("qemu:arg", &[("value", value)]))
    })
}
