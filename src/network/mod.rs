//! The guest's network: a tap in the container's namespace, the kernel's NAT, and the answer to DHCP.
//!
//! [`Network`] is decided at create, [`set_up`] applies it in the container's network namespace, and the supervisor
//! runs a [`dhcp::Server`] on the tap. Addresses are chosen in the namespace and read back from the tap with
//! [`addresses()`], so that nothing has to be carried from one step to the next.

mod addresses;
pub mod dhcp;
mod facts;
mod link;
mod nft;
mod rules;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

pub use addresses::{Addresses, addresses};

use crate::error::{Error, Result};
use link::Tap;

/// Everything about the guest's network that is known before there is a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name of the tap in the container's network namespace; at most 15 characters.
    pub tap: String,
    /// Name of the nft table (family `ip`) in that namespace.
    pub table: String,
    /// The container's own IPv4 resolvers; the guest's questions go to the first. Empty: the guest has no resolver.
    pub resolvers: Vec<Ipv4Addr>,
    /// Uid of QEMU, in the user namespace of the process that calls [`set_up`]: it alone may open the tap.
    pub owner: u32,
    /// Which ports of the container's addresses are the guest's.
    pub ports: Ports,
}

/// Ports of the container's addresses that lead to the guest, TCP and UDP alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ports {
    /// Every port: the namespace is the VM's own.
    All,
    /// These alone: the namespace is shared.
    Only(Vec<u16>),
}

impl Network {
    /// The network of the container `id` in a namespace of its own; see the fields for the rest.
    pub fn new(id: &str, resolvers: Vec<Ipv4Addr>, owner: u32) -> Self {
        let tap = tap_name(id);
        Self { table: format!("crun-qemu-{tap}"), tap, resolvers, owner, ports: Ports::All }
    }

    /// Refuses names that would act in an nft script or in a path below `/proc/sys`.
    fn check(&self) -> Result<()> {
        let plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !plain(&self.tap) || self.tap.len() >= libc::IFNAMSIZ {
            return Err(Error::new(format!("network interface {:?}", self.tap), "not a name that can be used"));
        }
        if !plain(&self.table) {
            return Err(Error::new(format!("nft table {:?}", self.table), "not a name that can be used"));
        }
        Ok(())
    }
}

/// Name of the tap of the container `id`: `vm-` and eight hexadecimal digits, the id's own where it begins with such.
pub fn tap_name(id: &str) -> String {
    match id.get(..8) {
        Some(prefix) if prefix.bytes().all(|b| b.is_ascii_hexdigit()) => format!("vm-{}", prefix.to_ascii_lowercase()),
        // FNV-1a, 32 bits: the same in every process that asks.
        _ => {
            let hash = id.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
            format!("vm-{hash:08x}")
        }
    }
}

/// The `nameserver` lines of a `resolv.conf`, in order; lines that make no sense are passed over, as libc does.
pub fn resolvers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            // An IPv6 address may carry a zone, which means nothing to the guest.
            let address = (words.next() == Some("nameserver")).then(|| words.next())??;
            address.split('%').next()?.parse().ok()
        })
        .collect()
}

/// Makes the tap and the kernel's NAT in the current network namespace; needs CAP_NET_ADMIN over it.
///
/// A table or tap of the same name that a former run left is replaced. On failure nothing of it stays.
///
/// # Errors
/// When `/dev/net/tun` cannot be used, no private subnet is free, a sysctl cannot be set, or nft is missing or refuses.
pub fn set_up(network: &Network) -> Result<()> {
    network.check()?;
    let facts = facts::read(&network.tap)?;
    let addresses = Addresses::choose(&facts, &network.resolvers)?;
    let resolver = network.resolvers.first().map(|address| facts::resolver(*address));
    let nft = nft::find()?;
    let tap = Tap::create(&network.tap, network.owner)?;
    let result = link::configure(&network.tap, &addresses)
        .and_then(|()| sysctl::set(network))
        .and_then(|()| link::up(&network.tap))
        // Last, so that a failure before it leaves no table.
        .and_then(|()| nft::run(nft, &rules::ruleset(network, &addresses, resolver.as_ref())));
    if result.is_err() {
        // The first error is the one to tell.
        let _ = tap.remove();
    }
    result
}

/// Removes what [`set_up`] made, for a namespace that outlives the VM; needs CAP_NET_ADMIN. What is already gone is
/// no error, and a failure with one part does not keep the other.
///
/// # Errors
/// The first failure.
pub fn tear_down(network: &Network) -> Result<()> {
    network.check()?;
    let table = nft::find().and_then(|nft| nft::run(nft, &rules::removal(network)));
    let tap = if link::exists(&network.tap) { Tap::create(&network.tap, network.owner)?.remove() } else { Ok(()) };
    table.and(tap)
}
