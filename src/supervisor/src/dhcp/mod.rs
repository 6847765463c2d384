//! The DHCP server on the tap: one client, one lease.
//!
//! Own code, because what a server of one lease has to read is five fields, and the crates for it either turn the
//! broadcast flag into another bit or bring fifty others.

mod message;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recv, sendto, setsockopt, socket, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};

pub use message::{Lease, Reply, reply};

use crun_qemu::error::{Context, Result};
use crun_qemu::network::{Addresses, addresses, names};

/// Port of DHCP servers.
const SERVER: u16 = 67;
/// Port of DHCP clients.
const CLIENT: u16 = 68;
/// Bytes read of a request: what fits an Ethernet frame; a longer one is cut, and then refused or answered as it is.
const REQUEST: usize = 1500;
/// Requests answered at one call: a guest that floods must not keep the supervisor from its other work.
const BATCH: usize = 16;

sockopt_impl!(
    /// No UDP checksum: the tap leaves checksums to the guest's device, and clients that read raw packets would see
    /// an unfinished one.
    NoChecksum,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_NO_CHECK,
    bool
);

/// Answers the guest; poll it for reading and call [`Server::answer_all`].
#[derive(Debug)]
pub struct Server {
    socket: OwnedFd,
    lease: Lease,
}

impl Server {
    /// Listens on the tap, whose addresses it reads; `resolv_conf` is the container's. Needs NET_BIND_SERVICE; binding
    /// to an interface needs nothing from Linux 5.7 on.
    ///
    /// # Errors
    /// When the tap is not there or has no address, or the port cannot be bound.
    pub fn bind(tap: &str, resolv_conf: &str) -> Result<Self> {
        let Addresses { gateway, guest, mtu } = addresses(tap)?;
        let what = || format!("DHCP server on {tap}");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None).context(what())?;
        setsockopt(&socket, sockopt::BindToDevice, &tap.into()).context(what())?;
        setsockopt(&socket, sockopt::Broadcast, &true).context(what())?;
        setsockopt(&socket, NoChecksum, &true).context(what())?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER))).context(what())?;
        // Without an IPv4 resolver the gateway cannot forward queries, and the guest should know.
        let (resolves, search) = (!names::resolvers(resolv_conf).is_empty(), names::search(resolv_conf));
        Ok(Self { socket, lease: Lease { gateway, guest, mtu, resolves, search } })
    }

    /// Answers the requests that have come, a bounded number of them; never blocks.
    ///
    /// # Errors
    /// When the socket fails, which a guest cannot bring about; a reply that cannot be sent is like one lost on the
    /// way, and the client asks again.
    pub fn answer_all(&mut self) -> Result<()> {
        let mut request = [0; REQUEST];
        for _ in 0..BATCH {
            let length = match recv(self.socket.as_raw_fd(), &mut request, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return Ok(()),
                // The interface went down (its user left), an ICMP error came in: neither is the socket's end.
                Err(Errno::EINTR | Errno::ENETDOWN | Errno::ECONNREFUSED) => continue,
                Err(e) => return Err(e).context("DHCP server"),
            };
            if let Some(Reply { packet, to }) = request.get(..length).and_then(|r| reply(r, &self.lease)) {
                let to = SockaddrIn::from(SocketAddrV4::new(to, CLIENT));
                let _ = sendto(self.socket.as_raw_fd(), &packet, &to, MsgFlags::empty());
            }
        }
        Ok(())
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
