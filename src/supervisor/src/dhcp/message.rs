//! Requests in, replies out: pure, for whatever bytes a guest sends.
//!
//! RFC 2131 has the fixed fields and the behaviour, RFC 2132 the options.

use std::net::Ipv4Addr;

use crun_qemu::network::NETMASK;

/// The answer to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Router and server, and resolver if any.
    pub gateway: Ipv4Addr,
    /// The client's address.
    pub guest: Ipv4Addr,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Whether the gateway resolves names.
    pub resolves: bool,
    /// Domains in which names are looked up.
    pub search: Vec<String>,
}

/// A packet for the client's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload.
    pub packet: Vec<u8>,
    /// The guest's address or 255.255.255.255.
    pub to: Ipv4Addr,
}

/// Seconds of a lease: a day. The address never changes while the tap lives, so renewals only cost wake-ups, but a
/// guest that is suspended or moved should ask again some time.
const LEASE_TIME: u32 = 24 * 60 * 60;

/// Offsets of the fixed fields.
mod at {
    use std::ops::Range;

    pub const OP: usize = 0;
    pub const HARDWARE_TYPE: usize = 1;
    pub const HARDWARE_LENGTH: usize = 2;
    pub const XID: Range<usize> = 4..8;
    pub const FLAGS: Range<usize> = 10..12;
    pub const CLIENT: Range<usize> = 12..16;
    pub const YOURS: Range<usize> = 16..20;
    pub const RELAY: Range<usize> = 24..28;
    pub const HARDWARE: Range<usize> = 28..44;
    pub const COOKIE: Range<usize> = 236..240;
    pub const OPTIONS: usize = 240;
}

const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const ETHERNET: u8 = 1;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes of the shortest packet that BOOTP relays and old clients take (RFC 1542, 2.1).
const SHORTEST: usize = 300;

/// Option codes.
mod option {
    pub const PAD: u8 = 0;
    pub const NETMASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const RESOLVER: u8 = 6;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const REQUESTED: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const CLIENT_ID: u8 = 61;
    pub const SEARCH: u8 = 119;
    pub const END: u8 = 255;
}

/// Kinds of messages, the values of option 53.
mod kind {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const INFORM: u8 = 8;
}

/// Answers one request; `None` for whatever is not a request to this server.
pub fn reply(packet: &[u8], lease: &Lease) -> Option<Reply> {
    if *packet.get(at::OP)? != BOOTREQUEST
        || *packet.get(at::HARDWARE_TYPE)? != ETHERNET
        || *packet.get(at::HARDWARE_LENGTH)? != 6
        || packet.get(at::COOKIE)? != COOKIE
        // There are no relays on a point-to-point link.
        || packet.get(at::RELAY)? != [0; 4]
    {
        return None;
    }
    let options = packet.get(at::OPTIONS..)?;
    let server = address(options, option::SERVER);
    if server.is_some_and(|server| server != lease.gateway) {
        return None;
    }
    let client = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at::CLIENT)?).ok()?);
    let answer = match find(options, option::KIND)? {
        [kind::DISCOVER] => kind::OFFER,
        [kind::REQUEST] => {
            // While selecting and rebooting the address is in the option, while renewing in the fixed field.
            let wanted = address(options, option::REQUESTED).unwrap_or(client);
            if wanted == lease.guest { kind::ACK } else { kind::NAK }
        }
        [kind::INFORM] if client == lease.guest => kind::ACK,
        _ => return None,
    };
    let informs = find(options, option::KIND)? == [kind::INFORM];
    let to = if client == lease.guest && answer != kind::NAK { lease.guest } else { Ipv4Addr::BROADCAST };
    Some(Reply { packet: build(packet, options, lease, answer, informs)?, to })
}

/// Writes the reply to a request with a complete fixed part.
fn build(request: &[u8], options: &[u8], lease: &Lease, answer: u8, informs: bool) -> Option<Vec<u8>> {
    let mut packet = vec![0; at::OPTIONS];
    packet[at::OP] = BOOTREPLY;
    packet[at::HARDWARE_TYPE] = ETHERNET;
    packet[at::HARDWARE_LENGTH] = 6;
    for copied in [at::XID, at::FLAGS, at::HARDWARE] {
        packet[copied.clone()].copy_from_slice(request.get(copied)?);
    }
    packet[at::COOKIE].copy_from_slice(&COOKIE);
    let mut put = |code: u8, value: &[u8]| {
        // No value here is longer than 255 bytes: a name, a request's option, what `search_list` fits into that.
        packet.push(code);
        packet.push(value.len() as u8);
        packet.extend_from_slice(value);
    };
    put(option::KIND, &[answer]);
    put(option::SERVER, &lease.gateway.octets());
    // RFC 6842: a client that names itself finds its name in the reply.
    if let Some(id) = find(options, option::CLIENT_ID).filter(|id| !id.is_empty()) {
        put(option::CLIENT_ID, id);
    }
    if answer != kind::NAK {
        if !informs {
            put(option::LEASE_TIME, &LEASE_TIME.to_be_bytes());
        }
        put(option::NETMASK, &NETMASK.octets());
        put(option::ROUTER, &lease.gateway.octets());
        if lease.resolves {
            put(option::RESOLVER, &lease.gateway.octets());
        }
        put(option::MTU, &u16::try_from(lease.mtu).unwrap_or(u16::MAX).to_be_bytes());
        if let Some(first) = lease.search.first() {
            put(option::DOMAIN, first.trim_end_matches('.').as_bytes());
            put(option::SEARCH, &search_list(&lease.search));
        }
    }
    packet.push(option::END);
    if answer != kind::NAK && !informs {
        packet[at::YOURS].copy_from_slice(&lease.guest.octets());
    }
    if answer == kind::ACK {
        packet[at::CLIENT].copy_from_slice(request.get(at::CLIENT)?);
    }
    packet.resize(packet.len().max(SHORTEST), option::PAD);
    Some(packet)
}

/// Domains as DNS writes them, labels with their lengths (RFC 3397): as many as fit an option.
fn search_list(domains: &[String]) -> Vec<u8> {
    let mut list = Vec::new();
    for domain in domains {
        let labels = domain.trim_end_matches('.').split('.');
        // A label has at most 63 bytes.
        let name: Vec<u8> = labels.flat_map(|l| std::iter::once(l.len() as u8).chain(l.bytes())).chain([0]).collect();
        if list.len() + name.len() > u8::MAX.into() {
            break;
        }
        list.extend(name);
    }
    list
}

/// Value of the first option of a code; options that run over the end do not exist.
fn find(mut options: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        let (&found, rest) = options.split_first()?;
        match found {
            option::END => return None,
            option::PAD => options = rest,
            _ => {
                let (&length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(length.into())?;
                if found == code {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

/// An option whose value is a single address.
fn address(options: &[u8], code: u8) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(options, code)?).ok()?))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
