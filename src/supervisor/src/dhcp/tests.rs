use super::*;
use crate::tests::Xorshift;

const LEASE: Lease = Lease {
    gateway: Ipv4Addr::new(10, 0, 99, 1),
    guest: Ipv4Addr::new(10, 0, 99, 2),
    mtu: 1500,
    resolves: true,
    search: Vec::new(),
};
const XID: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

/// A request as clients write it: 240 fixed bytes, then the options given.
fn request(client: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0];
    packet.extend(XID);
    packet.extend([0, 3, 0x80, 0]);
    packet.extend(client);
    packet.extend([0; 12]);
    packet.extend(MAC);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    packet.extend(options);
    packet.push(255);
    packet
}

/// The reply expected: fixed part with these addresses, then the options given, padded to 300 bytes.
fn expected(client: [u8; 4], yours: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 1, 6, 0];
    packet.extend(XID);
    packet.extend([0, 0, 0x80, 0]);
    packet.extend(client);
    packet.extend(yours);
    packet.extend([0; 8]);
    packet.extend(MAC);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    packet.extend(options);
    packet.push(255);
    packet.resize(300, 0);
    packet
}

const NONE: [u8; 4] = [0; 4];
const GUEST: [u8; 4] = [10, 0, 99, 2];
const GUEST_ROUTER: [u8; 4] = [10, 0, 99, 1];
const SERVER: [u8; 6] = [54, 4, 10, 0, 99, 1];
const TIME: [u8; 6] = [51, 4, 0, 1, 0x51, 0x80];
const SETTINGS: [u8; 22] = [1, 4, 255, 255, 255, 252, 3, 4, 10, 0, 99, 1, 6, 4, 10, 0, 99, 1, 26, 2, 0x05, 0xdc];

#[test]
fn replies_byte_for_byte() {
    let all = |kind: u8| [&[53, 1, kind][..], &SERVER, &TIME, &SETTINGS].concat();
    let named = [&[53, 1, 5][..], &SERVER, &[61, 7, 1, 0x52, 0x54, 0, 1, 2, 3], &TIME, &SETTINGS].concat();
    let nak = [&[53, 1, 6][..], &SERVER].concat();
    let informed = [&[53, 1, 5][..], &SERVER, &SETTINGS].concat();
    let everybody = Ipv4Addr::BROADCAST;
    let table: Vec<(&str, Vec<u8>, Vec<u8>, Ipv4Addr)> = vec![
        ("discover", request(NONE, &[53, 1, 1]), expected(NONE, GUEST, &all(2)), everybody),
        (
            "discover with pads, a wish and a strange host name",
            request(NONE, &[0, 0, 12, 2, 0xff, 0xfe, 50, 4, 192, 168, 1, 7, 53, 1, 1]),
            expected(NONE, GUEST, &all(2)),
            everybody,
        ),
        (
            "selecting, with a client identifier",
            request(NONE, &[53, 1, 3, 61, 7, 1, 0x52, 0x54, 0, 1, 2, 3, 50, 4, 10, 0, 99, 2, 54, 4, 10, 0, 99, 1]),
            expected(NONE, GUEST, &named),
            everybody,
        ),
        ("renewing", request(GUEST, &[53, 1, 3]), expected(GUEST, GUEST, &all(5)), LEASE.guest),
        (
            "rebooting with an address of elsewhere",
            request(NONE, &[53, 1, 3, 50, 4, 192, 168, 1, 7]),
            expected(NONE, NONE, &nak),
            everybody,
        ),
        ("requesting nothing", request(NONE, &[53, 1, 3]), expected(NONE, NONE, &nak), everybody),
        ("renewing another", request([10, 0, 99, 3], &[53, 1, 3]), expected(NONE, NONE, &nak), everybody),
        ("inform", request(GUEST, &[53, 1, 8]), expected(GUEST, NONE, &informed), LEASE.guest),
    ];
    for (name, request, packet, to) in table {
        assert_eq!(reply(&request, &LEASE), Some(Reply { packet, to }), "{name}");
    }
}

#[test]
fn no_resolver_where_there_is_none() {
    let discover = request(NONE, &[53, 1, 1]);
    for (resolves, want) in [(true, Some(&GUEST_ROUTER[..])), (false, None)] {
        let packet = reply(&discover, &Lease { resolves, ..LEASE }).unwrap().packet;
        assert_eq!(find(&packet[at::OPTIONS..], option::RESOLVER), want, "{resolves}");
        assert_eq!(find(&packet[at::OPTIONS..], option::ROUTER), Some(&GUEST_ROUTER[..]));
    }
}

#[test]
fn silence_for_the_rest() {
    let discover = request(NONE, &[53, 1, 1]);
    let with = |at: usize, byte: u8| {
        let mut packet = discover.clone();
        packet[at] = byte;
        packet
    };
    let table = [
        ("empty", vec![]),
        ("cut before the options", discover[..239].to_vec()),
        ("no options", discover[..240].to_vec()),
        ("a reply", with(0, 2)),
        ("not Ethernet", with(1, 6)),
        ("hardware address of another length", with(2, 16)),
        ("relayed", with(24, 10)),
        ("no cookie", with(236, 0)),
        ("no kind", request(NONE, &[12, 1, b'a'])),
        ("kind after the end", request(NONE, &[255, 53, 1, 1])),
        ("kind of two bytes", request(NONE, &[53, 2, 1, 1])),
        ("option over the end", request(NONE, &[12, 200, 53, 1, 1])),
        ("for another server", request(NONE, &[53, 1, 3, 50, 4, 10, 0, 99, 2, 54, 4, 10, 0, 99, 3])),
        ("release", request(GUEST, &[53, 1, 7])),
        ("decline", request(NONE, &[53, 1, 4, 50, 4, 10, 0, 99, 2])),
        ("inform from elsewhere", request([192, 168, 1, 7], &[53, 1, 8])),
        ("unknown kind", request(NONE, &[53, 1, 99])),
    ];
    for (name, packet) in table {
        assert_eq!(reply(&packet, &LEASE), None, "{name}");
    }
}

#[test]
fn hostile_packets_get_bounded_answers_or_none() {
    let seeds = [
        request(NONE, &[53, 1, 1, 61, 255]),
        request(GUEST, &[53, 1, 3, 61, 7, 1, 2, 3, 4, 5, 6, 7, 50, 4, 10, 0, 99, 2, 54, 4, 10, 0, 99, 1]),
        request(GUEST, &[53, 1, 8, 12, 4, 1, 2, 3, 4]),
    ];
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut answered = 0;
    for round in 0..200_000 {
        let mut packet = seeds[round % seeds.len()].clone();
        packet.resize(random.next() % 700, 0);
        for _ in 0..random.next() % 6 {
            // Mostly among the options, where the lengths are.
            let at = if random.next().is_multiple_of(4) { random.next() } else { 240 + random.next() % 40 };
            if let Some(byte) = packet.get_mut(at % 700) {
                *byte = random.next() as u8;
            }
        }
        if let Some(Reply { packet, to }) = reply(&packet, &LEASE) {
            assert!((300..=600).contains(&packet.len()), "{packet:?}");
            assert!(to == LEASE.guest || to == Ipv4Addr::BROADCAST);
            answered += 1;
        }
    }
    assert!(answered > 10_000, "{answered}: the packets are too broken to test anything");
}

#[test]
fn search_domains_as_many_as_fit() {
    let lease = |search: &[&str]| Lease { search: search.iter().map(ToString::to_string).collect(), ..LEASE };
    let answer = |lease: &Lease| reply(&request(NONE, &[53, 1, 1]), lease).unwrap().packet;
    let found = |packet: &[u8], code| find(&packet[at::OPTIONS..], code).map(<[u8]>::to_vec);
    let packet = answer(&lease(&["dns.podman", "a."]));
    assert_eq!(found(&packet, option::DOMAIN).unwrap(), b"dns.podman");
    assert_eq!(found(&packet, option::SEARCH).unwrap(), b"\x03dns\x06podman\0\x01a\0");
    let long = [["x"; 60].concat(), ["y"; 60].concat()].join(".");
    let packet = answer(&lease(&[&long, &long, &long]));
    assert_eq!(found(&packet, option::SEARCH).unwrap().len(), 2 * 123);
    assert_eq!(*packet.last().unwrap(), option::END);
}
