//! The service that announces IPv6 to the guest.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, recv, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};

use super::message::{advertisement, is_solicitation, reply};
use crun_qemu::error::{Context, Error, Result};
use crun_qemu::network::ipv6::{self, Prefix};
use crun_qemu::network::mtu;

/// Port of DHCPv6 servers.
const SERVER: u16 = 547;
/// Port of DHCPv6 clients.
const CLIENT: u16 = 546;
/// Every host on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every DHCPv6 server on the link.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Bytes read of a packet; a longer one is cut.
const PACKET: usize = 1500;
/// Packets heard at one call: a guest that floods must not keep the supervisor from its other work.
const BATCH: usize = 16;
/// Interval of advertisements: without repetition the guest would drop the prefix in the end.
const INTERVAL: Duration = Duration::from_secs(30 * 60);

sockopt_impl!(
    /// A group on one interface.
    Join,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_ADD_MEMBERSHIP,
    libc::ipv6_mreq
);

/// A router and a DHCPv6 server on the tap, silent while the container has no IPv6. Poll its descriptors for reading
/// and call [`Service::turn`].
#[derive(Debug)]
pub struct Service {
    router: OwnedFd,
    dhcp: OwnedFd,
    /// Reports that addresses have come or gone.
    watch: OwnedFd,
    prefix: Prefix,
    mtu: u32,
    /// Index of the tap.
    index: u32,
    /// Time of the next advertisement; `None` while there is nothing to announce.
    due: Option<Instant>,
}

impl Service {
    /// Starts with the socket that [`crun_qemu::network::set_up`] opened. Needs NET_BIND_SERVICE.
    ///
    /// # Errors
    /// When the tap is not there or has no IPv6 address of ours, or the port cannot be bound.
    pub fn start(tap: &str, router: OwnedFd) -> Result<Self> {
        let what = || format!("IPv6 on {tap}");
        let prefix = ipv6::prefix(tap).ok_or_else(|| Error::new(what(), "no address"))?;
        let index = if_nametoindex(tap).context(what())?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let dhcp = socket(AddressFamily::Inet6, SockType::Datagram, flags, None).context(what())?;
        setsockopt(&dhcp, sockopt::Ipv6V6Only, &true).context(what())?;
        setsockopt(&dhcp, sockopt::BindToDevice, &tap.into()).context(what())?;
        let ipv6mr_multiaddr = libc::in6_addr { s6_addr: ALL_SERVERS.octets() };
        setsockopt(&dhcp, Join, &libc::ipv6_mreq { ipv6mr_multiaddr, ipv6mr_interface: index }).context(what())?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER, 0, 0);
        bind(dhcp.as_raw_fd(), &SockaddrIn6::from(any)).context(what())?;
        let (raw, routes) = (SockType::Raw, SockProtocol::NetlinkRoute);
        let watch = socket(AddressFamily::Netlink, raw, flags, routes).context(what())?;
        bind(watch.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_IPV6_IFADDR as u32)).context(what())?;
        let due = ipv6::is_there()?.then(Instant::now);
        Ok(Self { router, dhcp, watch, prefix, mtu: mtu(tap)?, index, due })
    }

    /// The descriptors to wait for.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.router.as_fd(), self.dhcp.as_fd(), self.watch.as_fd()]
    }

    /// When to call [`Service::turn`] even without anything to read.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Answers pending requests and announces changes, in bounded time; never blocks. A packet that cannot be sent
    /// counts as lost on the way.
    pub fn turn(&mut self, now: Instant) {
        let mut packet = [0; PACKET];
        if heard(&self.watch, &mut packet, |_| true)
            && let Ok(there) = ipv6::is_there()
            && there != self.due.is_some()
        {
            self.due = there.then_some(now);
            if !there {
                self.advertise(None);
            }
        }
        let asked = heard(&self.router, &mut packet, is_solicitation);
        if let Some(due) = self.due
            && (asked || due <= now)
        {
            self.advertise(Some(self.prefix));
            self.due = Some(now + INTERVAL);
        }
        self.answer(&mut packet);
    }

    fn advertise(&self, prefix: Option<Prefix>) {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.index);
        let packet = advertisement(prefix, self.mtu);
        let _ = sendto(self.router.as_raw_fd(), &packet, &SockaddrIn6::from(to), MsgFlags::empty());
    }

    /// Answers DHCPv6.
    fn answer(&self, packet: &mut [u8]) {
        for _ in 0..BATCH {
            let (length, from) = match recvfrom::<SockaddrIn6>(self.dhcp.as_raw_fd(), packet) {
                Ok((length, Some(from))) => (length, from),
                Err(Errno::EAGAIN) => return,
                _ => continue,
            };
            if self.due.is_some()
                && let Some(answer) = packet.get(..length).and_then(|packet| reply(packet, self.prefix))
            {
                let to = SocketAddrV6::new(from.ip(), CLIENT, 0, self.index);
                let _ = sendto(self.dhcp.as_raw_fd(), &answer, &SockaddrIn6::from(to), MsgFlags::empty());
            }
        }
    }
}

/// Whether a packet that `wanted` accepts was among those received.
fn heard(socket: &OwnedFd, packet: &mut [u8], wanted: impl Fn(&[u8]) -> bool) -> bool {
    let mut heard = false;
    for _ in 0..BATCH {
        match recv(socket.as_raw_fd(), packet, MsgFlags::empty()) {
            Ok(length) => heard |= packet.get(..length).is_some_and(&wanted),
            Err(Errno::EAGAIN) => break,
            // More than a netlink socket could keep.
            Err(Errno::ENOBUFS) => heard |= wanted(&[]),
            Err(_) => {}
        }
    }
    heard
}
