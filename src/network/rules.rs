//! The nf_tables rules: NAT both ways, and what the guest may reach.

use std::net::Ipv4Addr;

use super::facts::Resolver;
use super::nft::{Chain, LOOPBACK, Must, Rule};
use super::{Addresses, Network, Ports};
use crate::request::ports::Protocol;
use Must::{Be, NotBe};

const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;
const DNS: u16 = 53;

/// All chains of the table.
pub(super) fn chains(network: &Network, addresses: &Addresses, resolver: Option<&Resolver>) -> Vec<Chain> {
    let (tap, shared) = (network.tap.as_str(), network.ports != Ports::All);
    let chain = |name, kind, hook, priority, rules| Chain { name, kind, hook, priority, rules };
    let before = libc::NF_INET_PRE_ROUTING;
    let mut chains = vec![
        chain("source", "filter", before, libc::NF_IP_PRI_RAW, source(tap, addresses)),
        chain("prerouting", "nat", before, libc::NF_IP_PRI_NAT_DST, prerouting(network, addresses, resolver)),
        chain("output", "nat", libc::NF_INET_LOCAL_OUT, libc::NF_IP_PRI_NAT_DST, output(network, addresses)),
        chain(
            "postrouting",
            "nat",
            libc::NF_INET_POST_ROUTING,
            libc::NF_IP_PRI_NAT_SRC,
            postrouting(network, addresses),
        ),
        chain("forward", "filter", libc::NF_INET_FORWARD, libc::NF_IP_PRI_FILTER, forward(tap)),
    ];
    if !shared {
        chains.push(chain("input", "filter", libc::NF_INET_LOCAL_IN, libc::NF_IP_PRI_FILTER, input(tap)));
    }
    chains
}

/// No other source than the guest's own address.
fn source(tap: &str, Addresses { guest, .. }: &Addresses) -> Vec<Rule> {
    let asks_for_address = Rule::new().saddr(Be, Ipv4Addr::UNSPECIFIED).daddr(Be, Ipv4Addr::BROADCAST);
    vec![
        Rule::new().iifname(NotBe, tap).accept(),
        asks_for_address.protocol(libc::IPPROTO_UDP).sport(DHCP_CLIENT).dport(DHCP_SERVER).accept(),
        Rule::new().saddr(NotBe, *guest).drop(),
        Rule::new().daddr(Be, LOOPBACK).drop(),
    ]
}

/// What comes from outside or from the guest.
fn prerouting(network: &Network, addresses: &Addresses, resolver: Option<&Resolver>) -> Vec<Rule> {
    let &Addresses { gateway, guest, .. } = addresses;
    let to_gateway = || Rule::new().iifname(Be, &network.tap).daddr(Be, gateway);
    let mut rules = Vec::new();
    if let Some(Resolver { address, udp, tcp }) = resolver {
        for (protocol, port) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
            rules.push(to_gateway().protocol(protocol.number()).dport(DNS).dnat(*address, Some(*port)));
        }
    }
    if network.ports != Ports::All {
        // Those who share a network namespace share its loopback; the gateway is the guest's name for it.
        rules.push(to_gateway().protocol(libc::IPPROTO_UDP).dport(DHCP_SERVER).accept());
        let to_loopback = |p: Protocol| to_gateway().protocol(p.number()).dnat(Ipv4Addr::LOCALHOST, None);
        rules.extend(Protocol::ALL.map(to_loopback));
    }
    // The gateway of a VM, this one's or another's here, is no address of the container's.
    rules.push(Rule::new().iifname(Be, "vm-*").for_this_interface().accept());
    rules.push(Rule::new().iifname(Be, "lo").accept());
    // Not by interface or address: an engine may bring its interfaces later. By its published address the guest reaches
    // itself, too.
    rules.extend(inward(network, guest, Rule::new));
    rules
}

/// What is sent from inside: an engine's port forwarder sends to the container's address. Loopback stays the
/// container's own, except that in a shared namespace the guest's ports are there as any neighbour's are.
fn output(network: &Network, &Addresses { gateway, guest, .. }: &Addresses) -> Vec<Rule> {
    inward(network, guest, || {
        let rule = Rule::new().daddr(NotBe, gateway);
        if network.ports == Ports::All { rule.daddr(NotBe, LOOPBACK) } else { rule }
    })
}

fn postrouting(network: &Network, addresses: &Addresses) -> Vec<Rule> {
    let mut rules = vec![Rule::new().saddr(Be, addresses.guest).masquerade()];
    if network.ports != Ports::All {
        rules.push(Rule::new().oifname(Be, &network.tap).saddr(Be, LOOPBACK).masquerade());
    }
    rules
}

/// What the guest may reach of the container itself.
fn input(tap: &str) -> Vec<Rule> {
    vec![
        Rule::new().iifname(NotBe, tap).accept(),
        Rule::new().known().accept(),
        Rule::new().protocol(libc::IPPROTO_UDP).dport(DHCP_SERVER).accept(),
        Rule::new().was_dnat().accept(),
        Rule::new().ping().accept(),
        Rule::new().drop(),
    ]
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

/// The guest's ports of this namespace's addresses lead to the guest; `begin` gives what else has to hold.
fn inward(network: &Network, guest: Ipv4Addr, begin: impl Fn() -> Rule) -> Vec<Rule> {
    let all = || Protocol::ALL.into_iter();
    let matches: Vec<(Protocol, Option<u16>)> = match &network.ports {
        Ports::All => all().map(|protocol| (protocol, None)).collect(),
        Ports::Only(ports) => ports.iter().flat_map(|port| port.protocols().map(|p| (p, Some(port.number)))).collect(),
    };
    let rule = |(protocol, port): (Protocol, Option<u16>)| {
        let rule = begin().for_us().protocol(protocol.number());
        port.map_or(rule.clone(), |port| rule.dport(port)).dnat(guest, None)
    };
    matches.into_iter().map(rule).collect()
}
