//! The nf_tables rules: NAT both ways, and what the guest may reach. One list for both families of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::facts::Resolver;
use super::nft::{Block, Chain, Family, Must, Rule};
use super::{Loopback, Ports, TapConfig};
use crate::request::ports::Protocol;
use Must::{Be, NotBe};

const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;
const DNS: u16 = 53;

/// Kinds of ICMP messages.
mod icmp {
    pub const ECHO_REQUEST: u8 = 8;
    pub const ECHO_REQUEST_V6: u8 = 128;
    /// Router solicitation, neighbour solicitation, neighbour advertisement.
    pub const DISCOVERY: [u8; 3] = [133, 135, 136];
}

/// The two ends of the tap, in one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// The tap's own address.
    pub gateway: IpAddr,
    /// The guest's.
    pub guest: IpAddr,
    /// What the guest may send from.
    pub sources: Block,
}

impl Ends {
    fn family(&self) -> Family {
        Family::of(self.gateway)
    }
}

/// Addresses that are not routed; a neighbour's are not to be told from the guest's.
fn link_local() -> Block {
    Block::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 8)
}

/// Everybody of some kind on the link.
fn link_multicast() -> Block {
    Block::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 2)
}

/// All chains of the table.
pub(super) fn chains(network: &TapConfig, ends: &Ends, loopback: Loopback, resolver: Option<&Resolver>) -> Vec<Chain> {
    let (tap, shared) = (network.tap.as_str(), network.ports != Ports::All);
    let chain = |name, kind, hook, priority, rules| Chain { name, kind, hook, priority, rules };
    let (before, after) = (libc::NF_INET_PRE_ROUTING, libc::NF_INET_POST_ROUTING);
    let mut chains = vec![
        chain("source", "filter", before, libc::NF_IP_PRI_RAW, source(tap, ends)),
        chain("prerouting", "nat", before, libc::NF_IP_PRI_NAT_DST, prerouting(network, ends, loopback, resolver)),
        chain("output", "nat", libc::NF_INET_LOCAL_OUT, libc::NF_IP_PRI_NAT_DST, output(network, ends, loopback)),
        chain("postrouting", "nat", after, libc::NF_IP_PRI_NAT_SRC, postrouting(tap, ends, loopback)),
        chain("forward", "filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER, forward(tap)),
    ];
    if !shared {
        let rules = input(tap, ends.family());
        chains.push(chain("input", "filter", libc::NF_INET_LOCAL_IN, libc::NF_IP_PRI_FILTER, rules));
    }
    chains
}

/// No other source than the guest's own.
fn source(tap: &str, ends: &Ends) -> Vec<Rule> {
    let mut rules = vec![Rule::new().iifname(NotBe, tap).accept()];
    match ends.family() {
        Family::Ip => {
            let asks_for_address = Rule::new().saddr(Be, Ipv4Addr::UNSPECIFIED).daddr(Be, Ipv4Addr::BROADCAST);
            rules.push(asks_for_address.protocol(libc::IPPROTO_UDP).sport(DHCP_CLIENT).dport(DHCP_SERVER).accept());
        }
        Family::Ip6 => {
            let asks_for_neighbours = Rule::new().saddr(Be, Ipv6Addr::UNSPECIFIED).daddr(Be, link_multicast());
            rules.push(asks_for_neighbours.protocol(libc::IPPROTO_ICMPV6).accept());
            rules.push(Rule::new().saddr(Be, link_local()).accept());
            // Among those that the guest may take for itself.
            rules.push(Rule::new().saddr(Be, ends.gateway).drop());
        }
    }
    rules.push(Rule::new().saddr(NotBe, ends.sources).drop());
    rules.push(Rule::new().daddr(Be, ends.family().loopback()).drop());
    rules
}

/// What comes from outside or from the guest.
fn prerouting(network: &TapConfig, ends: &Ends, loopback: Loopback, resolver: Option<&Resolver>) -> Vec<Rule> {
    let to_gateway = || Rule::new().iifname(Be, &network.tap).daddr(Be, ends.gateway);
    let mut rules = Vec::new();
    if let Some(Resolver { address, udp, tcp }) = resolver {
        for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
            rules.push(to_gateway().protocol(protocol.number()).dport(DNS).dnat((*address).into(), Some(*port)));
        }
    }
    if loopback == Loopback::Shared {
        // Those who share a network namespace share its loopback; the gateway is the guest's name for it.
        rules.push(to_gateway().protocol(libc::IPPROTO_UDP).dport(DHCP_SERVER).accept());
        let to_loopback = |p: Protocol| to_gateway().protocol(p.number()).dnat(Ipv4Addr::LOCALHOST.into(), None);
        rules.extend(Protocol::ALL.map(to_loopback));
    }
    // The gateway of a VM, this one's or another's here, is no address of the container's.
    rules.push(Rule::new().iifname(Be, "vm-*").for_this_interface().accept());
    rules.push(Rule::new().iifname(Be, "lo").accept());
    // Not by interface or address: an engine may bring its interfaces later. By its published address the guest reaches
    // itself, too.
    rules.extend(inward(network, ends, |rule| rule));
    rules
}

/// What is sent from inside: an engine's port forwarder sends to the container's address. Loopback stays the
/// container's own, except that in a shared namespace the guest's ports are there as any neighbour's are, in IPv4, and
/// that it may be a way in. Other addresses than 127.0.0.1 are Docker's resolver's and the like.
fn output(network: &TapConfig, ends: &Ends, loopback: Loopback) -> Vec<Rule> {
    let begin = |rule: Rule| rule.daddr(NotBe, ends.gateway);
    match loopback {
        Loopback::Shared => inward(network, ends, begin),
        Loopback::Own => inward(network, ends, |rule| begin(rule).daddr(NotBe, ends.family().loopback())),
        Loopback::WayIn => {
            let mut rules = inward(network, ends, |rule| begin(rule).daddr(NotBe, ends.family().loopback()));
            rules.extend(inward(network, ends, |rule| rule.daddr(Be, Ipv4Addr::LOCALHOST)));
            rules
        }
    }
}

fn postrouting(tap: &str, ends: &Ends, loopback: Loopback) -> Vec<Rule> {
    let mut rules = vec![Rule::new().saddr(Be, ends.sources).masquerade()];
    if loopback != Loopback::Own {
        rules.push(Rule::new().oifname(Be, tap).saddr(Be, Family::Ip.loopback()).masquerade());
    }
    rules
}

/// What the guest may reach of the container itself.
fn input(tap: &str, family: Family) -> Vec<Rule> {
    let (dhcp, ping) = match family {
        Family::Ip => (DHCP_SERVER, icmp::ECHO_REQUEST),
        Family::Ip6 => (DHCPV6_SERVER, icmp::ECHO_REQUEST_V6),
    };
    let mut rules = vec![
        Rule::new().iifname(NotBe, tap).accept(),
        Rule::new().known().accept(),
        Rule::new().protocol(libc::IPPROTO_UDP).dport(dhcp).accept(),
        Rule::new().was_dnat().accept(),
        Rule::new().icmp(family, ping).accept(),
    ];
    if family == Family::Ip6 {
        rules.extend(icmp::DISCOVERY.map(|kind| Rule::new().icmp(family, kind).accept()));
    }
    rules.push(Rule::new().drop());
    rules
}

/// What may reach the guest.
fn forward(tap: &str) -> Vec<Rule> {
    vec![
        Rule::new().oifname(NotBe, tap).accept(),
        Rule::new().known().accept(),
        Rule::new().was_dnat().accept(),
        Rule::new().drop(),
    ]
}

/// The guest's ports of this namespace's addresses lead to the guest; `further` adds what else has to hold.
fn inward(network: &TapConfig, ends: &Ends, further: impl Fn(Rule) -> Rule) -> Vec<Rule> {
    let all = || Protocol::ALL.into_iter();
    let matches: Vec<(Protocol, Option<u16>)> = match &network.ports {
        Ports::All => all().map(|protocol| (protocol, None)).collect(),
        Ports::Only(ports) => ports.iter().flat_map(|port| port.protocols().map(|p| (p, Some(port.number)))).collect(),
    };
    let begin = || match ends.family() {
        Family::Ip => Rule::new(),
        Family::Ip6 => Rule::new().daddr(NotBe, link_local()),
    };
    let rule = |(protocol, port): (Protocol, Option<u16>)| {
        let rule = further(begin()).for_us().protocol(protocol.number());
        port.map_or(rule.clone(), |port| rule.dport(port)).dnat(ends.guest, None)
    };
    matches.into_iter().map(rule).collect()
}
