//! Router advertisements (RFC 4861) and the answers to DHCPv6 (RFC 8415): pure, for whatever bytes a guest sends.

use crun_qemu::network::ipv6::{LENGTH, Prefix, ROUTER_SOLICITATION};

const ROUTER_ADVERTISEMENT: u8 = 134;

/// Seconds for which the guest takes a router for one; advertisements come more often.
const ROUTER_LIFETIME: u16 = 9000;
/// Seconds of a lease, and of the prefix: as in IPv4.
const LEASE_TIME: u32 = 24 * 60 * 60;

/// Whether the packet is a router solicitation; its content does not matter, because every answer goes to all nodes.
pub fn is_solicitation(packet: &[u8]) -> bool {
    // Kind, code, checksum, four bytes of nothing.
    packet.len() >= 8 && packet.starts_with(&[ROUTER_SOLICITATION, 0])
}

/// A router advertisement of a prefix; without one, it announces that there is no router any more. The kernel fills in
/// the checksum.
pub fn advertisement(prefix: Option<Prefix>, mtu: u32) -> Vec<u8> {
    const HOP_LIMIT: u8 = 64;
    /// M: addresses are to be had by DHCPv6.
    const MANAGED: u8 = 0x80;
    /// L and A: addresses in the prefix are on the link, and a guest without DHCPv6 may take one.
    const ON_LINK_AUTONOMOUS: u8 = 0xc0;
    let lifetime = if prefix.is_some() { ROUTER_LIFETIME } else { 0 };
    let mut packet = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, MANAGED];
    packet.extend(lifetime.to_be_bytes());
    // Times of neighbour discovery: the guest's own.
    packet.extend([0; 8]);
    // Options: kind and length in units of eight bytes. First the MTU.
    packet.extend([5, 1, 0, 0]);
    packet.extend(mtu.to_be_bytes());
    if let Some(prefix) = prefix {
        packet.extend([3, 4, LENGTH as u8, ON_LINK_AUTONOMOUS]);
        packet.extend(LEASE_TIME.to_be_bytes());
        // Never preferred: a guest that has the leased address, where it is reached, answers from that.
        packet.extend([0; 4]);
        packet.extend([0; 4]);
        packet.extend(prefix.network().octets());
    }
    packet
}

/// Kinds of DHCPv6 messages.
mod kind {
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION: u8 = 11;
}

/// Option codes.
mod option {
    pub const CLIENT: u16 = 1;
    pub const SERVER: u16 = 2;
    /// An association of addresses: a number of the client's, two times, and options.
    pub const ASSOCIATION: u16 = 3;
    pub const ADDRESS: u16 = 5;
    pub const STATUS: u16 = 13;
    pub const RAPID: u16 = 14;
}

/// Values of the option of that name.
mod status {
    pub const SUCCESS: u16 = 0;
    pub const NOT_ON_LINK: u16 = 4;
}

/// The server's identifier, of the kind made from an Ethernet address: it is the only server on its link.
const SERVER: [u8; 10] = *b"\x00\x03\x00\x01\x02crunq";
/// Bytes of the longest identifier: a kind and 128 more.
const LONGEST: usize = 130;
/// Bytes of an association before its options.
const ASSOCIATION_HEAD: usize = 12;

/// Answers one request of DHCPv6's; `None` for whatever is not a request to this server.
pub fn reply(packet: &[u8], prefix: Prefix) -> Option<Vec<u8>> {
    let (&[asked, a, b, c], options) = packet.split_first_chunk()?;
    let client = find(options, option::CLIENT).filter(|id| (1..=LONGEST).contains(&id.len()));
    let server = find(options, option::SERVER);
    let (any, ours) = (server.is_none(), server == Some(&SERVER));
    let association = find(options, option::ASSOCIATION).filter(|a| a.len() >= ASSOCIATION_HEAD);
    if client.is_none() && asked != kind::INFORMATION {
        return None;
    }
    let mut answer = kind::REPLY;
    let mut body = Vec::new();
    match asked {
        kind::SOLICIT if any => {
            if find(options, option::RAPID).is_some() {
                put(&mut body, option::RAPID, &[]);
            } else {
                answer = kind::ADVERTISE;
            }
            put(&mut body, option::ASSOCIATION, &lease(association?, prefix, false));
        }
        kind::REQUEST if ours => put(&mut body, option::ASSOCIATION, &lease(association?, prefix, false)),
        kind::RENEW if ours => put(&mut body, option::ASSOCIATION, &lease(association?, prefix, true)),
        kind::REBIND if any => put(&mut body, option::ASSOCIATION, &lease(association?, prefix, true)),
        kind::CONFIRM if any => {
            let mut addresses = addresses(association?).peekable();
            addresses.peek()?;
            let here = addresses.all(|address| prefix.contains(address.into()));
            let status = if here { status::SUCCESS } else { status::NOT_ON_LINK };
            put(&mut body, option::STATUS, &status.to_be_bytes());
        }
        kind::RELEASE | kind::DECLINE if ours => put(&mut body, option::STATUS, &status::SUCCESS.to_be_bytes()),
        kind::INFORMATION if any || ours => {}
        _ => return None,
    }
    let mut packet = vec![answer, a, b, c];
    if let Some(client) = client {
        put(&mut packet, option::CLIENT, client);
    }
    put(&mut packet, option::SERVER, &SERVER);
    packet.extend(body);
    Some(packet)
}

/// The requested association, with the only address there is. When the client renews, any other address gets lifetime
/// 0.
fn lease(association: &[u8], prefix: Prefix, renews: bool) -> Vec<u8> {
    let guest = prefix.guest().octets();
    let others = addresses(association).filter(|address| renews && *address != guest);
    let mut value = association[..4].to_vec();
    value.extend((LEASE_TIME / 2).to_be_bytes());
    value.extend((LEASE_TIME / 5 * 4).to_be_bytes());
    for (address, lifetime) in [(guest, LEASE_TIME)].into_iter().chain(others.map(|other| (other, 0))) {
        // Preferred and valid.
        let lifetime = lifetime.to_be_bytes();
        put(&mut value, option::ADDRESS, &[&address[..], &lifetime, &lifetime].concat());
    }
    value
}

/// The addresses in an association with a complete head.
fn addresses(association: &[u8]) -> impl Iterator<Item = [u8; 16]> {
    let options = Options(&association[ASSOCIATION_HEAD..]);
    options.filter_map(|(code, value)| if code == option::ADDRESS { value.first_chunk().copied() } else { None })
}

/// No value here is longer than the packet that it comes from, or than a few addresses.
fn put(packet: &mut Vec<u8>, code: u16, value: &[u8]) {
    packet.extend(code.to_be_bytes());
    packet.extend((value.len() as u16).to_be_bytes());
    packet.extend_from_slice(value);
}

/// Value of the first option of a code.
fn find(options: &[u8], code: u16) -> Option<&[u8]> {
    Options(options).find_map(|(found, value)| (found == code).then_some(value))
}

/// A sequence of options; an option that runs over the end is ignored.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[c, d, l, m], rest) = self.0.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([l, m]).into())?;
        self.0 = rest;
        Some((u16::from_be_bytes([c, d]), value))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
