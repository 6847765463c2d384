//! The parts of the engine's `resolv.conf` and `hosts` that are passed on to the guest. Pure.

use std::net::{IpAddr, Ipv4Addr};

/// The IPv4 addresses of the `nameserver` lines of a `resolv.conf`, in order; lines that make no sense are passed over,
/// as libc does.
pub fn resolvers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    resolv_conf.lines().filter_map(of_line).collect()
}

/// The domains in which a `resolv.conf` has names looked up: of its `search` and `domain` lines the last, as in libc.
pub fn search(resolv_conf: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.map(String::from).collect::<Vec<_>>())
    };
    let mut domains = resolv_conf.lines().rev().find_map(of_line).unwrap_or_default();
    // A dot alone says that there is none.
    domains.retain(|domain| is_name(domain));
    domains
}

/// The lines of a `hosts` file that mean the same in the guest, as an address and names. Left out: loopback and
/// multicast addresses, link-local ones (the guest is not on that link), and lines for `own`, the host name of
/// container and guest.
pub fn hosts(hosts: &str, own: &str) -> Vec<(String, String)> {
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok().filter(means_the_same)?;
        let names: Vec<_> = words.filter(|name| is_name(name)).collect();
        (!names.is_empty() && !names.contains(&own)).then(|| (address.to_string(), names.join(" ")))
    };
    hosts.lines().filter_map(of_line).collect()
}

fn means_the_same(address: &IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
    !address.is_loopback() && !address.is_multicast() && !link_local
}

/// Whether `text` is a domain name: labels of 1 to 63 letters, digits, hyphens and underscores.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_as_libc_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.88.0.1\n\tnameserver\t127.0.0.11 # docker\n\
            nameserver fe80::1%eth0\nnameserver\nnameserver x\nnameserverx 1.2.3.4\noptions ndots:1";
        let want: Vec<Ipv4Addr> = ["10.88.0.1", "127.0.0.11"].map(|a| a.parse().unwrap()).into();
        assert_eq!(resolvers(text), want);
        assert_eq!(resolvers(""), Vec::<Ipv4Addr>::new());
    }

    #[test]
    fn search_domains() {
        for (text, want) in [
            ("nameserver 1.2.3.4", &[][..]),
            ("search dns.podman a.test.\n", &["dns.podman", "a.test."]),
            ("search a\ndomain b", &["b"]),
            ("search .", &[]),
            ("search ok a..b x;y", &["ok"]),
        ] {
            assert_eq!(search(text), want, "{text}");
        }
    }

    #[test]
    fn hosts_that_are_others() {
        let text = "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\nff02::1 ip6-allnodes\nfe80::1 six\n\
            fd00::1 six six.test\n192.0.2.7 db db.test # ours\n\
            10.88.0.1\thost.containers.internal\n10.88.0.5 web awkward_name\n192.0.2.8\n192.0.2.9 $(reboot) ok\nx y";
        let want = [
            ("fd00::1", "six six.test"),
            ("192.0.2.7", "db db.test"),
            ("10.88.0.1", "host.containers.internal"),
            ("192.0.2.9", "ok"),
        ];
        assert_eq!(hosts(text, "web"), want.map(|(address, names)| (address.to_string(), names.to_string())));
    }
}
