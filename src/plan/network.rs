//! The guest's network.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Network, identity};
use crate::error::Error;
use crate::handoff::paths;
use crate::host::Host;
use crate::network::Ports;
use crate::request::ports::Port;
use crate::request::{self, Request};

pub(super) fn network(request: &Request, host: &Host, id: &str, digest: u128, warnings: &mut Vec<Error>) -> Network {
    let ports = request.options.ports.clone();
    let why = match (&request.network, &host.tun) {
        (request::NetworkOwner::Foreign, _) => "the container shares one".to_string(),
        (_, Err(why)) => format!("/dev/net/tun: {why}"),
        (whose, Ok(())) => {
            let shared = matches!(whose, request::NetworkOwner::Shared(_));
            let ports = if shared { Ports::Only(ports) } else { Ports::All };
            return Network::Tap { name: identity::tap(id, digest), vhost: host.vhost_net, ports };
        }
    };
    let reached = match &*ports {
        [] => "nothing reaches it, unless --port names ports".to_string(),
        ports => format!("only port {} reaches it", ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ")),
    };
    let line =
        Error::new("network", why).hint(format!("the guest gets QEMU's user network: it reaches out, {reached}"));
    warnings.push(line);
    Network::User { ssh: ssh_forward(digest), ports }
}

/// Loopback address and port for the guest's sshd. VMs may share a network, even the host's, so each uses its own
/// loopback address: one of 16 million that other programs do not use by convention.
pub(super) fn ssh_forward(digest: u128) -> SocketAddr {
    let octet = |n: u32| 1 + (digest >> (8 * n) & 0xff) as u8 % 254;
    SocketAddr::new(Ipv4Addr::new(127, octet(2), octet(1), octet(0)).into(), paths::SSH_PORT)
}
