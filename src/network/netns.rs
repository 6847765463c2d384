//! Inventory of the network namespace.

use std::fs;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;

use super::link;
use crate::error::{Context, Result};

/// The thread's routes, not the process': the namespace is the calling thread's.
const ROUTES: &str = "/proc/thread-self/net/route";

/// podman's name for the interface that slirp4netns makes.
const SLIRP: &str = "tap0";

/// Addresses in use, and the packet size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Subnets of all addresses and routes but the default one.
    pub subnets: Vec<Subnet>,
    /// MTU of the way out: the default route's interface, else the smallest there is; `None` without any interface.
    pub mtu: Option<u32>,
    /// The way out leads to a program that also delivers connections to published ports: pasta, not slirp4netns, for
    /// which podman runs a forwarder that connects to the container's address.
    pub forwarded: bool,
}

/// An IPv4 subnet; `address` may have host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    pub address: Ipv4Addr,
    pub prefix: u32,
}

impl Subnet {
    fn mask(prefix: u32) -> u32 {
        u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = Self::mask(self.prefix.min(other.prefix));
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.overlaps(&Self { address, prefix: 32 })
    }
}

/// A line of the kernel's routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    interface: String,
    subnet: Subnet,
}

/// Looks at the current network namespace; what belongs to `own`, a tap left by a former run, does not count.
pub(super) fn read(own: &str) -> Result<Facts> {
    let mut facts = Facts::default();
    let mut interfaces = Vec::new();
    for interface in getifaddrs().context("addresses of the container")? {
        if interface.interface_name == own {
            continue;
        }
        let address = interface.address.as_ref().and_then(|a| Some(a.as_sockaddr_in()?.ip()));
        let netmask = interface.netmask.as_ref().and_then(|a| Some(a.as_sockaddr_in()?.ip()));
        if let Some(address) = address {
            let prefix = u32::from(netmask.unwrap_or(Ipv4Addr::BROADCAST)).count_ones();
            facts.subnets.push(Subnet { address, prefix });
        }
        if !interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK) {
            interfaces.push(interface.interface_name);
        }
    }
    let text = fs::read_to_string(ROUTES).context(ROUTES)?;
    let (default, others): (Vec<_>, Vec<_>) =
        routes(&text).into_iter().filter(|r| r.interface != own).partition(|r| r.subnet.prefix == 0);
    facts.subnets.extend(others.iter().map(|r| r.subnet));
    facts.forwarded = default.first().is_some_and(|way| way.interface != SLIRP && link::is_tun(&way.interface));
    facts.mtu = match default.first() {
        Some(route) => link::mtu(&route.interface).ok(),
        None => interfaces.iter().filter_map(|name| link::mtu(name).ok()).min(),
    };
    Ok(facts)
}

/// Reads `/proc/net/route`: a line of titles, then interface, destination, gateway, flags, three counters, mask; the
/// addresses are hexadecimal in the machine's byte order as if it were the network's.
fn routes(text: &str) -> Vec<Route> {
    let address = |hex: &str| Some(Ipv4Addr::from(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes()));
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let prefix = u32::from(address(words.get(7)?)?).count_ones();
            let subnet = Subnet { address: address(words.get(1)?)?, prefix };
            Some(Route { interface: (*words.first()?).to_owned(), subnet })
        })
        .collect()
}

/// Address and ports on which the container's resolver really listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolver {
    pub address: Ipv4Addr,
    pub udp: u16,
    pub tcp: u16,
}

/// Finds the ports of a resolver. A resolver on loopback (Docker's) listens on random ports, to which the engine's
/// rules redirect port 53 for traffic from inside. The guest's queries arrive from the tap, past those rules.
pub(super) fn resolver(address: Ipv4Addr) -> Resolver {
    let port = |protocol: &str| {
        let table = address.is_loopback().then(|| fs::read_to_string(format!("/proc/thread-self/net/{protocol}")).ok());
        table.flatten().and_then(|text| listener(&text, address)).unwrap_or(DNS)
    };
    Resolver { address, udp: port("udp"), tcp: port("tcp") }
}

/// DNS' port.
const DNS: u16 = 53;

/// The port of a listener at `address` in `/proc/net/tcp` or `udp`; 53 if that is one of them.
fn listener(text: &str, address: Ipv4Addr) -> Option<u16> {
    let local = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
    let ports = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let port = u16::from_str_radix(words.next()?.strip_prefix(&local)?, 16).ok()?;
        // Not connected.
        words.next()?.ends_with(":0000").then_some(port)
    });
    ports.min_by_key(|port| *port != DNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn finds_the_resolvers_port() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let other = "  10: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n";
        let docker = "  11: 0B00007F:A112 00000000:0000 0A 00000000:00000000\n";
        let connected = "  12: 0B00007F:0035 0100007F:8888 01 00000000:00000000\n";
        let plain = "  13: 0B00007F:0035 00000000:0000 07 00000000:00000000\n";
        let table: &[(&[&str], Option<u16>)] = &[
            (&[], None),
            (&[other], None),
            (&[other, connected, docker], Some(0xa112)),
            (&[docker, plain], Some(53)),
            (&["garbage\n", "1: 0B00007F:zz\n"], None),
        ];
        for (lines, want) in table {
            let text = format!("{head}{}", lines.concat());
            assert_eq!(listener(&text, Ipv4Addr::new(127, 0, 0, 11)), *want, "{text}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_kernels_table() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            tap0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            tap0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            cut\t0002";
        let route = |address: [u8; 4], prefix| Route {
            interface: "tap0".into(),
            subnet: Subnet { address: address.into(), prefix },
        };
        assert_eq!(routes(text), [route([0, 0, 0, 0], 0), route([10, 0, 2, 0], 24)]);
    }
}
