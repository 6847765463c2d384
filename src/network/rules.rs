//! The nf_tables rules: NAT both ways, and what the guest may reach. One list for both families of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netns::Resolver;
use super::nft::{AddrPrefix, Chain, Cmp, Family, Rule};
use super::{Loopback, Ports, TapConfig};
use crate::request::ports::Protocol;
use Cmp::{Eq, Ne};

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
pub(super) struct TapEnds {
    /// The tap's own address.
    pub gateway: IpAddr,
    /// The guest's.
    pub guest: IpAddr,
    /// Source addresses that the guest may use.
    pub sources: AddrPrefix,
}

impl TapEnds {
    fn family(&self) -> Family {
        Family::of(self.gateway)
    }
}

/// Addresses that are not routed; a neighbour's cannot be distinguished from the guest's.
fn link_local() -> AddrPrefix {
    AddrPrefix::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 8)
}

/// Everybody of some kind on the link.
fn link_multicast() -> AddrPrefix {
    AddrPrefix::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 2)
}

/// All chains of the table.
pub(super) fn chains(
    network: &TapConfig,
    ends: &TapEnds,
    loopback: Loopback,
    resolver: Option<&Resolver>,
) -> Vec<Chain> {
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
fn source(tap: &str, ends: &TapEnds) -> Vec<Rule> {
    let mut rules = vec![Rule::new().iifname(Ne, tap).accept()];
    match ends.family() {
        Family::Ip => {
            let asks_for_address = Rule::new().saddr(Eq, Ipv4Addr::UNSPECIFIED).daddr(Eq, Ipv4Addr::BROADCAST);
            rules.push(asks_for_address.protocol(libc::IPPROTO_UDP).sport(DHCP_CLIENT).dport(DHCP_SERVER).accept());
        }
        Family::Ip6 => {
            let asks_for_neighbours = Rule::new().saddr(Eq, Ipv6Addr::UNSPECIFIED).daddr(Eq, link_multicast());
            rules.push(asks_for_neighbours.protocol(libc::IPPROTO_ICMPV6).accept());
            rules.push(Rule::new().saddr(Eq, link_local()).accept());
            // Among those that the guest may take for itself.
            rules.push(Rule::new().saddr(Eq, ends.gateway).drop());
        }
    }
    rules.push(Rule::new().saddr(Ne, ends.sources).drop());
    rules.push(Rule::new().daddr(Eq, ends.family().loopback()).drop());
    rules
}

/// Traffic that arrives from outside or from the guest.
fn prerouting(network: &TapConfig, ends: &TapEnds, loopback: Loopback, resolver: Option<&Resolver>) -> Vec<Rule> {
    let to_gateway = || Rule::new().iifname(Eq, &network.tap).daddr(Eq, ends.gateway);
    let mut rules = Vec::new();
    if let Some(Resolver { address, udp, tcp }) = resolver {
        for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
            rules.push(to_gateway().protocol(protocol.number()).dport(DNS).dnat((*address).into(), Some(*port)));
        }
    }
    if loopback == Loopback::Shared {
        // Containers that share a network namespace share its loopback; for the guest, the gateway stands for it.
        rules.push(to_gateway().protocol(libc::IPPROTO_UDP).dport(DHCP_SERVER).accept());
        let to_loopback = |p: Protocol| to_gateway().protocol(p.number()).dnat(Ipv4Addr::LOCALHOST.into(), None);
        rules.extend(Protocol::ALL.map(to_loopback));
    }
    // The gateway of a VM, this one's or another's in this namespace, is not an address of the container.
    rules.push(Rule::new().iifname(Eq, "vm-*").for_this_interface().accept());
    rules.push(Rule::new().iifname(Eq, "lo").accept());
    // Not by interface or address: an engine may bring its interfaces later. By its published address the guest reaches
    // itself, too.
    rules.extend(inward(network, ends, |rule| rule));
    rules
}

/// Traffic from inside: an engine's port forwarder connects to the container's address. Loopback stays the container's
/// own, with two exceptions in IPv4: in a shared namespace the guest's ports are there as any neighbour's are, and
/// loopback may be a way in. Addresses other than 127.0.0.1 belong to Docker's resolver and the like.
fn output(network: &TapConfig, ends: &TapEnds, loopback: Loopback) -> Vec<Rule> {
    let begin = |rule: Rule| rule.daddr(Ne, ends.gateway);
    match loopback {
        Loopback::Shared => inward(network, ends, begin),
        Loopback::Own => inward(network, ends, |rule| begin(rule).daddr(Ne, ends.family().loopback())),
        Loopback::WayIn => {
            let mut rules = inward(network, ends, |rule| begin(rule).daddr(Ne, ends.family().loopback()));
            rules.extend(inward(network, ends, |rule| rule.daddr(Eq, Ipv4Addr::LOCALHOST)));
            rules
        }
    }
}

fn postrouting(tap: &str, ends: &TapEnds, loopback: Loopback) -> Vec<Rule> {
    let mut rules = vec![Rule::new().saddr(Eq, ends.sources).masquerade()];
    if loopback != Loopback::Own {
        rules.push(Rule::new().oifname(Eq, tap).saddr(Eq, Family::Ip.loopback()).masquerade());
    }
    rules
}

/// The container's own services that the guest may reach.
fn input(tap: &str, family: Family) -> Vec<Rule> {
    let (dhcp, ping) = match family {
        Family::Ip => (DHCP_SERVER, icmp::ECHO_REQUEST),
        Family::Ip6 => (DHCPV6_SERVER, icmp::ECHO_REQUEST_V6),
    };
    let mut rules = vec![
        Rule::new().iifname(Ne, tap).accept(),
        Rule::new().ct_established().accept(),
        Rule::new().protocol(libc::IPPROTO_UDP).dport(dhcp).accept(),
        Rule::new().ct_dnat().accept(),
        Rule::new().icmp(family, ping).accept(),
    ];
    if family == Family::Ip6 {
        rules.extend(icmp::DISCOVERY.map(|kind| Rule::new().icmp(family, kind).accept()));
    }
    rules.push(Rule::new().drop());
    rules
}

/// Traffic that may reach the guest.
fn forward(tap: &str) -> Vec<Rule> {
    vec![
        Rule::new().oifname(Ne, tap).accept(),
        Rule::new().ct_established().accept(),
        Rule::new().ct_dnat().accept(),
        Rule::new().drop(),
    ]
}

/// The guest's ports of this namespace's addresses lead to the guest; `further` adds what else has to hold.
fn inward(network: &TapConfig, ends: &TapEnds, further: impl Fn(Rule) -> Rule) -> Vec<Rule> {
    let all = || Protocol::ALL.into_iter();
    let matches: Vec<(Protocol, Option<u16>)> = match &network.ports {
        Ports::All => all().map(|protocol| (protocol, None)).collect(),
        Ports::Only(ports) => ports.iter().flat_map(|port| port.protocols().map(|p| (p, Some(port.number)))).collect(),
    };
    let begin = || match ends.family() {
        Family::Ip => Rule::new(),
        Family::Ip6 => Rule::new().daddr(Ne, link_local()),
    };
    let rule = |(protocol, port): (Protocol, Option<u16>)| {
        let rule = further(begin()).fib_daddr_local().protocol(protocol.number());
        port.map_or(rule.clone(), |port| rule.dport(port)).dnat(ends.guest, None)
    };
    matches.into_iter().map(rule).collect()
}
