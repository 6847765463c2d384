//! The guest's IPv6, where the container's namespace has it: an address of a private prefix behind the container's own,
//! by NAT as in IPv4. The guest learns of it by router advertisements and DHCPv6, from the supervisor.

mod link;
mod prefix;

use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

pub use prefix::{LENGTH, Prefix, is_there, prefix};

use super::nft::{self, AddrPrefix, Family, Lifetime};
use super::rules::{self, TapEnds};
use super::{Loopback, TapConfig, sysctl};
use crate::error::Result;

/// The ICMPv6 message by which a guest asks for routers.
pub const ROUTER_SOLICITATION: u8 = 133;

/// The tap's link-local address, the source of router advertisements.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The guest's address, which it has where the container has IPv6. Needs no privileges.
pub fn guest(tap: &str) -> Option<Ipv6Addr> {
    prefix(tap).filter(|_| prefix::is_there().unwrap_or(false)).map(Prefix::guest)
}

/// Descriptors that keep the IPv6 side alive.
pub(super) struct Made {
    /// The table, by the socket that made it.
    pub table: OwnedFd,
    /// Socket for the supervisor's router advertisements.
    pub router: OwnedFd,
}

/// Adds IPv6 to the tap, which is up. `None`, with nothing left, if the namespace or the kernel lacks IPv6 or a part of
/// it: the guest then has IPv4 only.
pub(super) fn set_up(network: &TapConfig, lifetime: Lifetime) -> Option<Made> {
    if !sysctl::has_ipv6() {
        return None;
    }
    let made = make(network, lifetime);
    if made.is_err() {
        let _ = sysctl::without_ipv6(&network.tap);
        let _ = nft::remove(Family::Ip6, &network.table);
    }
    made.ok()
}

fn make(network: &TapConfig, lifetime: Lifetime) -> Result<Made> {
    let prefix = Prefix::choose(&network.tap)?;
    let sources = AddrPrefix::new(prefix.network(), prefix::LENGTH as usize / 8);
    let ends = TapEnds { gateway: prefix.gateway().into(), guest: prefix.guest().into(), sources };
    // The kernel does not route between ::1 and other hosts.
    let table =
        nft::replace(Family::Ip6, &network.table, &rules::chains(network, &ends, Loopback::Own, None), lifetime)?;
    sysctl::with_ipv6(&network.tap)?;
    link::add_address(&network.tap, LINK_LOCAL, 64)?;
    link::add_address(&network.tap, prefix.gateway(), prefix::LENGTH)?;
    Ok(Made { table, router: link::router(&network.tap)? })
}
