//! The user that QEMU runs as.

use super::attachments::Attachments;
use super::{Accelerator, Network};
use crate::handoff::supervisor_config::Ids;
use crate::host::Host;
use crate::host::idmap::{IdMap, OVERFLOW};
use crate::host::mount_sources::Node;
use crate::request::Request;
use crate::request::ports::Port;

/// Below are the ports for which a capability is needed.
const FIRST_PORT_OF_ALL: u16 = 1024;

/// A user of QEMU's own, without any right but to what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The ids in the container.
    pub ids: Ids,
    /// Id of the group in the user namespace of the process that prepares files.
    pub outside_gid: u32,
    /// Further groups in the container: those of the device nodes that QEMU opens.
    pub groups: Vec<u32>,
}

/// The user for this VM. `None` if the container has no second user, or if QEMU must open something that only root can
/// open: PCI devices, ports below 1024, device nodes that are open neither to everybody nor to a group of the
/// container.
pub(super) fn user(request: &Request, host: &Host, digest: u128, needs: &Needs) -> Option<User> {
    if needs.pci || needs.low_port() {
        return None;
    }
    let (uids, gids) = match &request.id_maps {
        Some((uids, gids)) => (uids.clone(), gids.clone()),
        None => (host.uids.own(), host.gids.own()),
    };
    let gid = gids.choose(digest)?;
    let mut groups = Vec::new();
    for (node, write) in needs.nodes(host) {
        match way_in(node, write, &gids)? {
            Way::Everybodys => {}
            Way::Group(group) if groups.contains(&group) => {}
            Way::Group(group) => groups.push(group),
        }
    }
    let ids = Ids { uid: uids.choose(digest)?, gid };
    Some(User { ids, outside_gid: gids.outside(gid)?, groups })
}

/// The things that QEMU opens itself and that decide which user it can be.
pub(super) struct Needs<'a> {
    /// PCI devices.
    pub pci: bool,
    /// `/dev/kvm`, or not.
    pub accelerator: Accelerator,
    /// Block devices.
    pub attachments: &'a Attachments,
    /// Ports.
    pub network: &'a Network,
}

impl Needs<'_> {
    /// Whether QEMU's user network listens on a privileged port.
    pub fn low_port(&self) -> bool {
        let is_low = |port: &Port| port.number < FIRST_PORT_OF_ALL;
        matches!(self.network, Network::User { ports, .. } if ports.iter().any(is_low))
    }

    fn nodes(&self, host: &Host) -> Vec<(Node, bool)> {
        let kvm = (self.accelerator == Accelerator::Kvm).then_some((host.kvm_node, true));
        let disks = self.attachments.disks.iter().filter_map(|disk| Some((disk.source.node()?, !disk.read_only)));
        kvm.into_iter().chain(disks).collect()
    }
}

enum Way {
    Everybodys,
    Group(u32),
}

/// How a user other than the owner can open the node. Membership in root's group does not count: too much else belongs
/// to that group.
fn way_in(node: Node, write: bool, gids: &IdMap) -> Option<Way> {
    let wanted = if write { 0o6 } else { 0o4 };
    if node.mode & wanted == wanted {
        return Some(Way::Everybodys);
    }
    let group = gids.inside(node.gid).filter(|gid| *gid != 0 && node.gid != OVERFLOW)?;
    (node.mode >> 3 & wanted == wanted).then_some(Way::Group(group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::image::Format;
    use crate::host::mount_sources::BlockDevice;
    use crate::plan::attachments::{Disk, DiskSource};
    use crate::plan::tests::{host, request};
    use crate::request::ports;

    const ROOTLESS: &str = "0 1000 1\n1 100000 65536\n";
    const DIGEST: u128 = 5;

    fn tap() -> Network {
        Network::Tap { name: "t".into(), vhost: true, ports: crate::network::Ports::All }
    }

    #[test]
    fn one_that_the_container_has() {
        let needs =
            Needs { pci: false, accelerator: Accelerator::Tcg, attachments: &Attachments::default(), network: &tap() };
        let ids = |change: &dyn Fn(&mut Request, &mut Host)| {
            let (mut request, mut host) = (request(), host());
            change(&mut request, &mut host);
            user(&request, &host, DIGEST, &needs).map(|user| (user.ids.uid, user.ids.gid, user.outside_gid))
        };
        let map = |uids, gids| (IdMap::parse(uids), IdMap::parse(gids));
        assert_eq!(ids(&|_, _| {}), Some((0x7000_0005, 0x7000_0005, 0x7000_0005)));
        assert_eq!(ids(&|_, h| (h.uids, h.gids) = map(ROOTLESS, ROOTLESS)), Some((32772, 32772, 32772)));
        let auto = "0 200000 1024\n";
        assert_eq!(ids(&|r, _| r.id_maps = Some(map(auto, auto))), Some((517, 517, 200_517)));
        assert_eq!(ids(&|r, _| r.id_maps = Some(map(auto, "0 200000 1\n"))), None);
        assert_eq!(ids(&|r, _| r.id_maps = Some(map("0 200000 1\n", auto))), None);
    }

    /// QEMU's groups if it has its own user.
    fn groups(needs: &Needs, kvm: Node, gids: &str) -> Option<Vec<u32>> {
        let host = Host { kvm_node: kvm, gids: IdMap::parse(gids), ..host() };
        user(&request(), &host, DIGEST, needs).map(|user| user.groups)
    }

    #[test]
    fn groups_of_device_nodes_and_nothing_that_is_roots() {
        let hosts = "0 0 4294967295\n";
        let node = |mode, gid| Node { mode, gid };
        let open = node(0o666, 0);
        for (kvm, gids, want) in [
            (open, hosts, Some(vec![])),
            (node(0o660, 104), hosts, Some(vec![104])),
            (node(0o660, 104), "0 1000 1\n7 100000 9\n", None),
            (node(0o660, 65534), ROOTLESS, None),
            (node(0o660, 0), hosts, None),
            (node(0o600, 104), hosts, None),
            (node(0o640, 104), hosts, None),
        ] {
            let needs = Needs {
                pci: false,
                accelerator: Accelerator::Kvm,
                attachments: &Attachments::default(),
                network: &tap(),
            };
            assert_eq!(groups(&needs, kvm, gids), want, "{kvm:?} {gids}");
        }
        let disk = |mode, read_only| Disk {
            number: 0,
            source: DiskSource::Mounted(0, BlockDevice { major: 7, minor: 1, read_only: false, node: node(mode, 6) }),
            target: "/d".into(),
            format: Format::Raw,
            read_only,
        };
        for (disks, want) in [
            (vec![disk(0o660, false), disk(0o660, false)], Some(vec![104, 6])),
            (vec![disk(0o640, true)], Some(vec![104, 6])),
            (vec![disk(0o640, false)], None),
        ] {
            let attachments = Attachments { disks, ..Attachments::default() };
            let needs = Needs { pci: false, accelerator: Accelerator::Kvm, attachments: &attachments, network: &tap() };
            assert_eq!(groups(&needs, node(0o660, 104), hosts), want, "{attachments:?}");
        }
    }

    #[test]
    fn what_only_root_can() {
        let network = |ports: &str| Network::User {
            ssh: "127.0.0.1:22022".parse().unwrap(),
            ports: ports::parse(ports).unwrap(),
        };
        let own = |pci, network: &Network| {
            let needs = Needs { pci, accelerator: Accelerator::Tcg, attachments: &Attachments::default(), network };
            groups(&needs, Node { mode: 0, gid: 0 }, "0 0 4294967295\n").is_some()
        };
        assert!(own(false, &tap()) && !own(true, &tap()));
        assert!(own(false, &network("1024,8080/udp")) && !own(false, &network("8080,1023/udp")));
    }
}
