//! The two families of addresses: all that is not the same in their rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Family of a table: its rules see only packets of this family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `ip`: IPv4.
    Ip,
    /// `ip6`.
    Ip6,
}

impl Family {
    /// An address'.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ip } else { Self::Ip6 }
    }

    /// Such as `NFPROTO_IPV4`.
    pub fn number(self) -> i32 {
        match self {
            Self::Ip => libc::NFPROTO_IPV4,
            Self::Ip6 => libc::NFPROTO_IPV6,
        }
    }

    /// The loopback addresses: 127.0.0.0/8, ::1.
    pub fn loopback(self) -> AddrPrefix {
        match self {
            Self::Ip => AddrPrefix::new(Ipv4Addr::LOCALHOST, 1),
            Self::Ip6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Offsets of the source and destination addresses in the header.
    pub fn offsets(self) -> (u32, u32) {
        match self {
            Self::Ip => (12, 16),
            Self::Ip6 => (8, 24),
        }
    }
}

/// Addresses that have the first so many bytes in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddrPrefix(IpAddr, usize);

impl AddrPrefix {
    /// Addresses that begin with the first `bytes` bytes of `address`.
    pub fn new(address: impl Into<IpAddr>, bytes: usize) -> Self {
        Self(address.into(), bytes)
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.0)
    }

    /// The common bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self.0 {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes.truncate(self.1);
        bytes
    }
}

impl<A: Into<IpAddr>> From<A> for AddrPrefix {
    fn from(address: A) -> Self {
        let address = address.into();
        Self(address, if address.is_ipv4() { 4 } else { 16 })
    }
}
