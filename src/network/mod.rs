//! The guest's network: a tap in the container's namespace, and the kernel's NAT.
//!
//! [`TapConfig`] is decided at create, [`set_up`] applies it in the container's network namespace, and the supervisor
//! answers DHCP on the tap and, with IPv6, sends router advertisements. The addresses are chosen in the namespace and
//! read back from the tap with [`addresses()`], so only descriptors pass between the steps: [`Descriptors`], which the
//! [`fd_store`] holds until the supervisor takes them. In a namespace that outlives the VM, the tap and the tables live
//! as long as the descriptors that own them; the router socket needs CAP_NET_RAW, which the supervisor lacks.
//!
//! Runs in crun's child or in the OCI hook, with CAP_NET_ADMIN over the namespace. The guest and the container's other
//! processes are hostile.

mod addresses;
mod claims;
pub mod fd_store;
pub mod ipv6;
mod link;
pub mod names;
mod netns;
mod nft;
mod rules;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use addresses::{Addresses, NETMASK, addresses};
pub use link::mtu;

use crate::error::{Error, Result};
use crate::request::ports::Port;
use link::Tap;
use nft::{Family, Lifetime};

/// Everything about the guest's network that is known before there is a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapConfig {
    /// Name of the tap in the container's network namespace; at most 15 characters.
    pub tap: String,
    /// Name of the nft tables (families `ip` and `ip6`) in that namespace.
    pub table: String,
    /// The container's IPv4 resolvers; the guest's queries go to the first. Empty: the guest has no resolver.
    pub resolvers: Vec<Ipv4Addr>,
    /// Uid of the supervisor, in the user namespace of the process that calls [`set_up`]: it alone may open the tap,
    /// and it opens it for QEMU.
    pub owner: u32,
    /// Ports of the container's addresses that lead to the guest.
    pub ports: Ports,
}

/// Ports of the container's addresses that lead to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ports {
    /// Every port: the namespace is the VM's own.
    All,
    /// These alone: the namespace is shared.
    Only(Vec<Port>),
}

/// Role of the namespace's IPv4 loopback for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loopback {
    /// None: it belongs to the container.
    Own,
    /// A way in, by 127.0.0.1: the container's network is a program (pasta), which may deliver connections to a
    /// published port on the host's loopback there.
    WayIn,
    /// The neighbours' and the guest's, as far as the ports that are named.
    Shared,
}

/// Descriptors that the supervisor must hold.
#[derive(Debug)]
pub struct Descriptors {
    /// In a namespace that outlives the VM: an idle queue of the tap, the sockets that own the tables, and the claims
    /// to ports. All are gone when their holder ends, however it ends.
    kept: Vec<OwnedFd>,
    /// With IPv6, the socket for router advertisements.
    pub router: Option<OwnedFd>,
}

impl TapConfig {
    /// The network with a tap of this name; see the fields for the rest.
    pub fn new(tap: &str, resolvers: Vec<Ipv4Addr>, ports: Ports) -> Self {
        // The container's root, which QEMU is not.
        let owner = 0;
        Self { table: format!("crun-qemu-{tap}"), tap: tap.to_owned(), resolvers, owner, ports }
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

/// Makes the tap and the kernel's NAT in the current network namespace. Needs CAP_NET_ADMIN over it, and CAP_NET_RAW
/// for IPv6. In a shared namespace they are gone when the returned descriptors are closed.
///
/// Tables or a tap of the same name from an earlier run are replaced. On failure nothing is left.
///
/// # Errors
/// Another container or VM in a shared namespace has one of the ports, `/dev/net/tun` cannot be used, no private
/// subnet is free, a sysctl cannot be set, or the kernel's nf_tables refuse.
pub fn set_up(network: &TapConfig) -> Result<Option<Descriptors>> {
    network.check()?;
    let facts = netns::read(&network.tap)?;
    let addresses = Addresses::choose(&facts, &network.resolvers)?;
    let resolver = network.resolvers.first().map(|address| netns::resolver(*address));
    let claims = match &network.ports {
        Ports::All => None,
        Ports::Only(ports) => Some(claims::claim(ports)?),
    };
    let shared = claims.is_some();
    let loopback = match (shared, facts.forwarded) {
        (true, _) => Loopback::Shared,
        (false, true) => Loopback::WayIn,
        (false, false) => Loopback::Own,
    };
    // A failure up to the last step drops the tap, and the table comes next to last.
    let tap = Tap::create(&network.tap, network.owner, shared)?;
    link::configure(&network.tap, &addresses)?;
    sysctl::set(network, loopback)?;
    link::up(&network.tap)?;
    let chains = rules::chains(network, &addresses.ends(), loopback, resolver.as_ref());
    let lifetime = if shared { Lifetime::Socket } else { Lifetime::Namespace };
    let table = nft::replace(Family::Ip, &network.table, &chains, lifetime)?;
    let (table6, router) = ipv6::set_up(network, lifetime).map(|made| (made.table, made.router)).unzip();
    if let Some(claims) = claims {
        let kept = [tap.into_fd(), table].into_iter().chain(table6).chain(claims).collect();
        return Ok(Some(Descriptors { kept, router }));
    }
    tap.persist()?;
    Ok(router.map(|router| Descriptors { kept: Vec::new(), router: Some(router) }))
}
