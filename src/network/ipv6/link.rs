//! The tap's IPv6 addresses, and the socket of a router on it.

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

use super::ROUTER_SOLICITATION;
use crate::error::{Context, Result};

nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, libc::in6_ifreq);

/// `ICMP6_FILTER`.
const FILTER: libc::c_int = 1;
/// Hop limit of neighbour discovery, which proves that the packet was not forwarded.
const UNFORWARDED: libc::c_int = 255;

sockopt_impl!(
    /// Kinds of messages that are kept away, a bit each: `struct icmp6_filter`.
    Filter,
    SetOnly,
    libc::IPPROTO_ICMPV6,
    FILTER,
    [u32; 8]
);

/// Gives an interface an address more.
pub fn add_address(interface: &str, address: Ipv6Addr, prefix: u32) -> Result<()> {
    let what = || format!("address {address} of {interface}");
    let index = if_nametoindex(interface).context(what())?;
    let request = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr { s6_addr: address.octets() },
        ifr6_prefixlen: prefix,
        ifr6_ifindex: index as libc::c_int,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let control = socket(AddressFamily::Inet6, SockType::Datagram, flags, None).context(what())?;
    // SAFETY: the kernel reads one in6_ifreq, which lives until the call returns.
    unsafe { set_address(control.as_raw_fd(), &raw const request) }.context(what())?;
    Ok(())
}

/// A socket that receives router solicitations from one interface and nothing else. Opening it needs CAP_NET_RAW, using
/// it does not.
pub fn router(interface: &str) -> Result<OwnedFd> {
    let what = || format!("ICMPv6 on {interface}");
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6).context(what())?;
    let mut filter = [u32::MAX; 8];
    filter[usize::from(ROUTER_SOLICITATION / 32)] &= !(1 << (ROUTER_SOLICITATION % 32));
    setsockopt(&socket, Filter, &filter).context(what())?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into()).context(what())?;
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &UNFORWARDED).context(what())?;
    Ok(socket)
}
