//! The guest's network card.

use super::tree::Element;
use crate::network::Ports;
use crate::plan::{Network, Plan};

/// The card on the tap; none with QEMU's user network.
pub(super) fn interface(plan: &Plan) -> Option<Element> {
    let Network::Tap { name, vhost, ports } = &plan.network else { return None };
    let mut driver = vec![("name", if *vhost { "vhost" } else { "qemu" })];
    // A tap that another process holds as well is opened as a multiqueue tap, whatever the number of queues.
    if matches!(ports, Ports::Only(_)) {
        driver.push(("queues", "2"));
    }
    Some(Element::new("interface", &[("type", "ethernet")]).with([
        Element::new("mac", &[("address", &plan.mac)]),
        Element::new("target", &[("dev", name), ("managed", "no")]),
        Element::new("model", &[("type", "virtio")]),
        Element::new("driver", &driver),
        // With a ROM, the firmware would try to boot from the network.
        Element::new("rom", &[("enabled", "no")]),
    ]))
}

/// QEMU's user network by QEMU's own options: libvirt's `<interface type='user'>` cannot forward ports.
pub(super) fn user_network(plan: &Plan) -> Option<Element> {
    let Network::User { ssh, ports } = &plan.network else { return None };
    // QEMU's default is slirp4netns' as well: a caller from there would seem to the guest to be on its own link.
    let mut backend = format!("user,id=user,net=10.0.99.0/24,hostfwd=tcp:{ssh}-:22");
    for port in ports {
        backend.extend(
            port.protocols().map(|protocol| format!(",hostfwd={}::{n}-:{n}", protocol.name(), n = port.number)),
        );
    }
    // libvirt does not know this card and fills the bus from its low end. The card has no ROM, as on the tap.
    let card = format!("virtio-net-pci,netdev=user,mac={},bus=pcie.0,addr=0x10,romfile=", plan.mac);
    let arguments = ["-netdev", &backend, "-device", &card];
    Some(Element::parent("qemu:commandline", arguments.map(|value| Element::new("qemu:arg", &[("value", value)]))))
}
