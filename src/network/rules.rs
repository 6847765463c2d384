//! The nft table: NAT both ways, and what the guest may reach.

use std::net::Ipv4Addr;

use super::facts::Resolver;
use super::{Addresses, Network, Ports};

/// The script for `nft -f`: one transaction that replaces a table of the same name.
pub(super) fn ruleset(network: &Network, addresses: &Addresses, resolver: Option<&Resolver>) -> String {
    let Network { tap, table, .. } = network;
    let Addresses { gateway, guest, .. } = addresses;
    let dns = resolver.map(|resolver| dns(tap, *gateway, resolver)).unwrap_or_default();
    let ports = ports(&network.ports);
    let inward = |from: &str| match &ports {
        Some(ports) => format!("\t\t{from} fib daddr type local {ports} dnat to {guest}\n"),
        None => String::new(),
    };
    // Not by interface or address: an engine may bring its interfaces later. Loopback traffic stays in the container,
    // but what is sent to one of the container's addresses from inside is the engine's port forwarder.
    // Nor do the taps of other VMs in the namespace count as outside: their gateways are local addresses too.
    let from_outside = inward("iifname != \"lo\" iifname != \"vm-*\"");
    let from_inside = inward(&format!("ip daddr != {{ 127.0.0.0/8, {gateway} }}"));
    // By its published address the guest reaches itself.
    let from_guest = inward(&format!("iifname \"{tap}\" ip daddr != {gateway}"));
    format!(
        "add table ip {table}
delete table ip {table}
table ip {table} {{
\tchain source {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname != \"{tap}\" accept
\t\tip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
\t\tip saddr != {guest} drop
\t\tip daddr 127.0.0.0/8 drop
\t}}
\tchain prerouting {{
\t\ttype nat hook prerouting priority dstnat; policy accept;
{dns}{from_outside}{from_guest}\t}}
\tchain output {{
\t\ttype nat hook output priority -100; policy accept;
{from_inside}\t}}
\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr {guest} masquerade
\t}}
\tchain input {{
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname != \"{tap}\" accept
\t\tct state established,related accept
\t\tudp dport 67 accept
\t\tct status dnat accept
\t\ticmp type echo-request accept
\t\tdrop
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
\t\toifname != \"{tap}\" accept
\t\tct state established,related accept
\t\tct status dnat accept
\t\tdrop
\t}}
}}
"
    )
}

/// The script that removes the table, whether it is there or not.
pub(super) fn removal(network: &Network) -> String {
    let table = &network.table;
    format!("add table ip {table}\ndelete table ip {table}\n")
}

/// Leads the guest's questions to the container's resolver.
fn dns(tap: &str, gateway: Ipv4Addr, resolver: &Resolver) -> String {
    let Resolver { address, udp, tcp } = resolver;
    format!(
        "\t\tiifname \"{tap}\" ip daddr {gateway} udp dport 53 dnat to {address}:{udp}\n\
         \t\tiifname \"{tap}\" ip daddr {gateway} tcp dport 53 dnat to {address}:{tcp}\n"
    )
}

/// The match for the guest's ports; `None` when it has none.
fn ports(ports: &Ports) -> Option<String> {
    let list = match ports {
        Ports::All => return Some("meta l4proto { tcp, udp }".into()),
        Ports::Only(list) if list.is_empty() => return None,
        Ports::Only(list) => list.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    };
    Some(format!("meta l4proto {{ tcp, udp }} th dport {{ {list} }}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let addresses =
            Addresses { gateway: Ipv4Addr::new(10, 0, 99, 1), guest: Ipv4Addr::new(10, 0, 99, 2), mtu: 1500 };
        let network = Network::new("1a2b3c4d5e6f", vec![], 0);
        let shared = |ports| Network { ports: Ports::Only(ports), ..network.clone() };
        let resolver = |address: [u8; 4], udp, tcp| Some(Resolver { address: address.into(), udp, tcp });
        let table = [
            (network.clone(), resolver([10, 88, 0, 1], 53, 53), include_str!("golden/own.nft")),
            (shared(vec![80, 443]), resolver([127, 0, 0, 11], 41234, 35353), include_str!("golden/shared.nft")),
            (shared(vec![]), None, include_str!("golden/closed.nft")),
        ];
        for (network, resolver, want) in table {
            assert_eq!(ruleset(&network, &addresses, resolver.as_ref()), want, "{network:?}");
        }
    }
}
