//! Claims on the ports of a shared network namespace.
//!
//! Rules act before sockets, so a port with a rule would be the guest's whichever process listens on it. A port is
//! therefore claimed as any process does: by a socket bound to it, on every address of both families. The bind fails if
//! a neighbour or another VM has the port, and keeps others away while the socket exists.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, setsockopt, socket, sockopt,
};

use crate::error::{Context, Error, Result};
use crate::request::ports::{Port, Protocol};

/// UDP ports at which the supervisor itself serves the guest: DHCP and DHCPv6.
const SUPERVISORS: [u16; 2] = [67, 547];

/// Claims the ports in the current network namespace, for as long as what is returned is open.
///
/// # Errors
/// Another has one of them.
pub fn claim(ports: &[Port]) -> Result<Vec<OwnedFd>> {
    let each = ports.iter().flat_map(|port| port.protocols().map(|protocol| (port.number, protocol)));
    each.map(|(number, protocol)| one(number, protocol)).collect()
}

fn one(number: u16, protocol: Protocol) -> Result<OwnedFd> {
    let what = || format!("--port {number}/{}", protocol.name());
    if protocol == Protocol::Udp && SUPERVISORS.contains(&number) {
        return Err(Error::new(what(), "the VM gets its own address there"));
    }
    match bound(number, protocol) {
        Err(Errno::EADDRINUSE) => {
            Err(Error::new(what(), "another VM or container in this network has it").hint("give each its own"))
        }
        result => result.context(what()),
    }
}

/// Nothing accepts on the socket, so traffic that the rules do not lead to the guest, on IPv6's loopback, is refused as
/// usual.
fn bound(number: u16, protocol: Protocol) -> nix::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let bound = |family, address: &dyn SockaddrLike| {
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if family == AddressFamily::Inet6 {
            setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
        }
        bind(fd.as_raw_fd(), address).map(|()| fd)
    };
    let both = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, number, 0, 0));
    match bound(AddressFamily::Inet6, &both) {
        // A kernel without IPv6.
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            let four = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number));
            bound(AddressFamily::Inet, &four)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::request::ports::parse;

    fn list(text: &str) -> std::result::Result<Vec<OwnedFd>, String> {
        claim(&parse(text).unwrap()).map_err(|e| e.to_string())
    }

    fn taken(port: &str) -> std::result::Result<(), String> {
        Err(format!("--port {port}: another VM or container in this network has it (give each its own)"))
    }

    // These ports are unlikely to be in use on the machine that runs the tests.
    #[test]
    fn one_at_a_time() {
        let held = list("65521,65522/tcp").unwrap();
        assert_eq!(held.len(), 3);
        for (again, port) in [("65521/udp", "65521/udp"), ("65522", "65522/tcp"), ("65523,65521", "65521/tcp")] {
            assert_eq!(list(again).map(drop), taken(port), "{again}");
        }
        assert!(list("65522/udp,65523").is_ok());
        drop(held);
        assert!(list("65521,65522").is_ok());
    }

    #[test]
    fn neither_before_nor_after_a_neighbour() {
        // On whatever address it listens. Rust sets SO_REUSEADDR on listeners, as most servers do.
        for address in ["127.0.0.1", "127.0.0.53", "0.0.0.0", "[::1]", "[::]"] {
            let listener = TcpListener::bind(format!("{address}:65524")).unwrap();
            assert_eq!(list("65524/tcp").map(drop), taken("65524/tcp"), "{address}");
            assert!(list("65524/udp").is_ok(), "{address}");
            drop(listener);
            let socket = UdpSocket::bind(format!("{address}:65524")).unwrap();
            assert_eq!(list("65524/udp").map(drop), taken("65524/udp"), "{address}");
            drop(socket);
            let held = list("65524").unwrap();
            let why = |error: std::io::Error| error.kind();
            let (tcp, udp) =
                (TcpListener::bind(format!("{address}:65524")), UdpSocket::bind(format!("{address}:65524")));
            assert_eq!(tcp.map(drop).map_err(why), Err(std::io::ErrorKind::AddrInUse), "{address}");
            assert_eq!(udp.map(drop).map_err(why), Err(std::io::ErrorKind::AddrInUse), "{address}");
            drop(held);
        }
    }

    #[test]
    fn not_where_the_guest_gets_its_address() {
        for port in ["67/udp", "547/udp"] {
            let want = format!("--port {port}: the VM gets its own address there");
            assert_eq!(list(port).map(drop), Err(want));
        }
    }
}
