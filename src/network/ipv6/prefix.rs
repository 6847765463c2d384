//! IPv6 addresses of the tap and the guest.

use std::fs;
use std::net::Ipv6Addr;

use nix::ifaddrs::getifaddrs;

use crate::error::{Context, Error, Result};

/// The thread's routes, not the process': the namespace is the calling thread's.
const ROUTES: &str = "/proc/thread-self/net/ipv6_route";

/// fd63:7275:6e71::/48, our unique local prefix (RFC 4193): its forty bits spell "crunq".
const SITE: [u8; 6] = *b"\xfdcrunq";

/// Bits of the network part.
pub const LENGTH: u32 = 64;

/// The tap's subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix(u128);

impl Prefix {
    /// One of our prefixes.
    pub fn nth(n: u16) -> Self {
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&SITE);
        octets[6..8].copy_from_slice(&n.to_be_bytes());
        Self(u128::from_be_bytes(octets))
    }

    /// Takes the first that no route of the namespace leads into; `own`, a tap left by a former run, does not count.
    pub(super) fn choose(own: &str) -> Result<Self> {
        let text = fs::read_to_string(ROUTES).context(ROUTES)?;
        Self::free(&routes(&text, own)).ok_or_else(|| Error::new("network of the VM", "no free IPv6 prefix"))
    }

    /// Several VMs may share one namespace.
    fn free(routes: &[Route]) -> Option<Self> {
        (0..256).map(Self::nth).find(|prefix| !routes.iter().any(|route| route.is_about(*prefix)))
    }

    /// The address with all host bits zero.
    pub fn network(self) -> Ipv6Addr {
        self.0.into()
    }

    /// The tap's own address.
    pub fn gateway(self) -> Ipv6Addr {
        (self.0 | 1).into()
    }

    /// The guest's address.
    pub fn guest(self) -> Ipv6Addr {
        (self.0 | 2).into()
    }

    /// Whether the prefix contains an address.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        (u128::from(address) ^ self.0) >> (128 - LENGTH) == 0
    }
}

/// The prefix of the tap that [`crate::network::set_up`] made; `None` if the guest has no IPv6. Needs no privileges.
pub fn prefix(tap: &str) -> Option<Prefix> {
    let mut addresses = getifaddrs().ok()?.filter(|i| i.interface_name == tap);
    let gateway =
        addresses.find_map(|i| Some(i.address?.as_sockaddr_in6()?.ip()).filter(|a| a.octets()[..6] == SITE))?;
    Some(Prefix(u128::from(gateway) & u128::MAX << (128 - LENGTH)))
}

/// Whether the namespace has IPv6 to pass on: an address that is valid beyond its link and not on a VM's tap.
pub fn is_there() -> Result<bool> {
    let beyond_link =
        |a: Ipv6Addr| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast() && !a.is_unicast_link_local();
    let mut interfaces = getifaddrs().context("addresses of the container")?;
    Ok(interfaces.any(|interface| {
        let address = interface.address.as_ref().and_then(|a| Some(a.as_sockaddr_in6()?.ip()));
        !interface.interface_name.starts_with("vm-") && address.is_some_and(beyond_link)
    }))
}

/// Destination of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    address: u128,
    length: u32,
}

impl Route {
    /// A route to much more than our site, such as the default one, says nothing of it.
    fn is_about(&self, prefix: Prefix) -> bool {
        self.length >= 8 * SITE.len() as u32 && (self.address ^ prefix.0) >> (128 - self.length.min(LENGTH)) == 0
    }
}

/// Reads `/proc/net/ipv6_route`: destination and its length, source and its length, next hop, four counters, interface,
/// all hexadecimal but for the last.
fn routes(text: &str, own: &str) -> Vec<Route> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = u128::from_str_radix(words.first()?, 16).ok()?;
        let length = u32::from_str_radix(words.get(1)?, 16).ok()?;
        (*words.get(9)? != own).then_some(Route { address, length })
    };
    text.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's line for a destination and an interface.
    fn line(route: &str) -> String {
        let (destination, interface) = route.split_once(' ').unwrap();
        let (address, length) = destination.split_once('/').unwrap();
        let address = u128::from(address.parse::<Ipv6Addr>().unwrap());
        let (length, none) = (length.parse::<u32>().unwrap(), "0".repeat(32));
        format!("{address:032x} {length:02x} {none} 00 {none} 00000100 00000001 00000000 00000001 {interface:>8}\n")
    }

    #[test]
    fn first_free_prefix() {
        let site = "fd63:7275:6e71";
        for (used, want) in [
            (vec![], Some("::")),
            (vec!["::/0 eth0", "fd00::/8 eth0", "fe80::/64 eth0"], Some("::")),
            (vec!["fd63:7275:6e71::/64 vm-0"], Some(":1::")),
            (vec!["fd63:7275:6e71::5/128 eth0"], Some(":1::")),
            (vec!["fd63:7275:6e71::/63 eth0", "fd63:7275:6e71:3::/64 vm-0"], Some(":2::")),
            (vec!["fd63:7275:6e71::/64 vm-own"], Some("::")),
            (vec!["fd63:7275:6e71::/48 eth0"], None),
        ] {
            let text: String = used.iter().map(|route| line(route)).collect();
            let got = Prefix::free(&routes(&text, "vm-own")).map(|p| p.network().to_string());
            assert_eq!(got, want.map(|rest| format!("{site}{rest}")), "{used:?}");
        }
        assert_eq!(routes("garbage\n12 zz\n", "vm-own"), []);
    }

    #[test]
    fn both_ends() {
        let prefix = Prefix::nth(1);
        assert_eq!(prefix.gateway().to_string(), "fd63:7275:6e71:1::1");
        assert_eq!(prefix.guest().to_string(), "fd63:7275:6e71:1::2");
        assert!(prefix.contains(prefix.guest()) && !prefix.contains(Prefix::nth(2).guest()));
    }
}
