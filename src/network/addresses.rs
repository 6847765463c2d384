//! Which addresses the tap and the guest have.

use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;

use super::link;
use super::netns::{Facts, Subnet};
use super::rules::TapEnds;
use crate::error::{Context, Error, Result};

/// Bits of the network part of the tap's subnet: two hosts, the gateway and the guest.
pub(super) const PREFIX: u32 = 30;

/// The mask of the tap's subnet.
pub const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 252);

/// Ranges for the tap's subnet, in order of preference: one /24 of each private range, each rarely used.
const RANGES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 99, 0), Ipv4Addr::new(172, 31, 99, 0), Ipv4Addr::new(192, 168, 199, 0)];

/// Bytes of the largest packet when no other interface says: Ethernet's.
const DEFAULT_MTU: u32 = 1500;

/// The two ends of the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The tap's own address: the guest's router, resolver and DHCP server.
    pub gateway: Ipv4Addr,
    /// The guest's address, the one after the gateway's.
    pub guest: Ipv4Addr,
    /// Bytes of the largest packet on the tap.
    pub mtu: u32,
}

impl Addresses {
    /// Takes the first subnet that no address, route or resolver of the namespace lies in.
    pub(super) fn choose(facts: &Facts, resolvers: &[Ipv4Addr]) -> Result<Self> {
        let free = |subnet: &Subnet| {
            !facts.subnets.iter().any(|used| used.overlaps(subnet)) && !resolvers.iter().any(|r| subnet.contains(*r))
        };
        let subnet = candidates().find(free).ok_or_else(|| {
            let ranges = RANGES.map(|r| format!("{r}/24")).join(", ");
            Error::new("network of the VM", format!("no free subnet: {ranges} are all in use in the container"))
        })?;
        Ok(Self::of(u32::from(subnet.address) + 1, facts.mtu.unwrap_or(DEFAULT_MTU)))
    }

    pub(super) fn ends(&self) -> TapEnds {
        TapEnds { gateway: self.gateway.into(), guest: self.guest.into(), sources: self.guest.into() }
    }

    fn of(gateway: u32, mtu: u32) -> Self {
        Self { gateway: Ipv4Addr::from(gateway), guest: Ipv4Addr::from(gateway.wrapping_add(1)), mtu }
    }
}

/// The first subnet of each range, then the others: several VMs may share one namespace.
fn candidates() -> impl Iterator<Item = Subnet> {
    let size = 1_u32 << (32 - PREFIX);
    (0..256 / size).flat_map(move |n| {
        RANGES.iter().map(move |range| Subnet { address: Ipv4Addr::from(u32::from(*range) + n * size), prefix: PREFIX })
    })
}

/// Reads the addresses back from the tap that [`super::set_up`] made; needs no privileges.
///
/// # Errors
/// When there is no such interface in the current network namespace, or it has no IPv4 address.
pub fn addresses(tap: &str) -> Result<Addresses> {
    let gateway = getifaddrs()
        .context(format!("addresses of {tap}"))?
        .filter(|i| i.interface_name == tap)
        .find_map(|i| Some(i.address?.as_sockaddr_in()?.ip()))
        .ok_or_else(|| Error::new(format!("network interface {tap}"), "not there, or without an IPv4 address"))?;
    Ok(Addresses::of(u32::from(gateway), link::mtu(tap)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (address, prefix) = text.split_once('/').unwrap();
        Subnet { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn first_free_subnet() {
        let table: &[(&[&str], &[&str], Option<&str>)] = &[
            (&[], &[], Some("10.0.99.1")),
            (&["10.88.0.0/16"], &["10.88.0.1"], Some("10.0.99.1")),
            (&["10.0.99.0/30"], &[], Some("172.31.99.1")),
            (&["10.0.0.0/8"], &[], Some("172.31.99.1")),
            (&["10.0.99.2/32"], &[], Some("172.31.99.1")),
            (&[], &["10.0.99.1", "172.31.99.3"], Some("192.168.199.1")),
            // More VMs in one namespace.
            (&["10.0.99.0/30", "172.31.99.0/30", "192.168.199.0/30"], &[], Some("10.0.99.5")),
            (&["10.0.99.0/25", "172.31.99.0/30", "192.168.0.0/16"], &[], Some("172.31.99.5")),
            (&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], &[], None),
        ];
        for (used, resolvers, want) in table {
            let facts = Facts { subnets: used.iter().map(|s| subnet(s)).collect(), ..Facts::default() };
            let resolvers: Vec<Ipv4Addr> = resolvers.iter().map(|r| r.parse().unwrap()).collect();
            let got = Addresses::choose(&facts, &resolvers).map(|a| a.gateway.to_string()).ok();
            assert_eq!(got.as_deref(), *want, "{used:?} {resolvers:?}");
        }
    }

    #[test]
    fn guest_follows_gateway_and_mtu_is_the_namespaces() {
        let facts = Facts { mtu: Some(65520), ..Facts::default() };
        let want = Addresses { gateway: Ipv4Addr::new(10, 0, 99, 1), guest: Ipv4Addr::new(10, 0, 99, 2), mtu: 65520 };
        assert_eq!(Addresses::choose(&facts, &[]).unwrap(), want);
        assert_eq!(Addresses::choose(&Facts::default(), &[]).unwrap().mtu, 1500);
    }
}
