use std::net::Ipv6Addr;

use super::*;
use crate::tests::Xorshift;

const CLIENT: &[u8] = &[0, 1, 0, 14, 0, 1, 0, 1, 1, 2, 3, 4, 0x52, 0x54, 0, 1, 2, 3];
const SERVER_OPTION: &[u8] = b"\x00\x02\x00\x0a\x00\x03\x00\x01\x02crunq";
const RAPID: &[u8] = &[0, 14, 0, 0];
const ELSEWHERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const GUEST: [u8; 16] = *b"\xfdcrunq\0\0\0\0\0\0\0\0\0\x02";

fn prefix() -> Prefix {
    Prefix::nth(0)
}

fn address(address: [u8; 16], lifetime: u32) -> Vec<u8> {
    [&[0, 5, 0, 24][..], &address, &lifetime.to_be_bytes(), &lifetime.to_be_bytes()].concat()
}

/// An association numbered 0x01020304 with two times and these options.
fn association(times: [u32; 2], options: &[u8]) -> Vec<u8> {
    let length = (12 + options.len()) as u16;
    let times = times.map(u32::to_be_bytes).concat();
    [&[0, 3][..], &length.to_be_bytes(), &[1, 2, 3, 4], &times, options].concat()
}

fn message(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    [&[kind, 0xa, 0xb, 0xc][..], &options.concat()].concat()
}

#[test]
fn advertisements_byte_for_byte() {
    let mut want = vec![134, 0, 0, 0, 64, 0x80, 0x23, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0x05, 0x78];
    want.extend([3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0, 0, 0, 0, 0, 0]);
    want.extend(b"\xfdcrunq\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(advertisement(Some(prefix()), 1400), want);
    let gone = [134, 0, 0, 0, 64, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0xff, 0xf0];
    assert_eq!(advertisement(None, 65520), gone);
}

#[test]
fn solicitations() {
    let solicitation = [133, 0, 1, 2, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7];
    assert!(is_solicitation(&solicitation) && is_solicitation(&solicitation[..8]));
    assert!(!is_solicitation(&solicitation[..7]) && !is_solicitation(&[]));
    assert!(!is_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0]) && !is_solicitation(&[133, 1, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn replies_byte_for_byte() {
    let lease = association([43200, 69120], &address(GUEST, 86400));
    let moved = association([43200, 69120], &[address(GUEST, 86400), address(ELSEWHERE, 0)].concat());
    let (empty, has) = (association([0, 0], &[]), association([7, 7], &address(GUEST, 9)));
    let other = association([0, 0], &address(ELSEWHERE, 9));
    let (fine, not_here) = ([0, 13, 0, 2, 0, 0], [0, 13, 0, 2, 0, 4]);
    let ours = SERVER_OPTION;
    let anonymous = |kind| message(kind, &[&[0, 6, 0, 2, 0, 23]]);
    let table: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("solicit", message(1, &[CLIENT, &empty]), message(2, &[CLIENT, ours, &lease])),
        (
            "solicit with a wish",
            message(1, &[&[0, 8, 0, 2, 0, 0], &other, CLIENT]),
            message(2, &[CLIENT, ours, &lease]),
        ),
        ("rapid", message(1, &[CLIENT, RAPID, &empty]), message(7, &[CLIENT, ours, RAPID, &lease])),
        ("request", message(3, &[CLIENT, ours, &has]), message(7, &[CLIENT, ours, &lease])),
        ("confirm", message(4, &[CLIENT, &has]), message(7, &[CLIENT, ours, &fine])),
        ("confirm from elsewhere", message(4, &[CLIENT, &other]), message(7, &[CLIENT, ours, &not_here])),
        ("renew", message(5, &[CLIENT, ours, &has]), message(7, &[CLIENT, ours, &lease])),
        ("renew another", message(5, &[CLIENT, ours, &other]), message(7, &[CLIENT, ours, &moved])),
        ("rebind another", message(6, &[CLIENT, &other]), message(7, &[CLIENT, ours, &moved])),
        ("release", message(8, &[CLIENT, ours, &has]), message(7, &[CLIENT, ours, &fine])),
        ("decline", message(9, &[CLIENT, ours, &has]), message(7, &[CLIENT, ours, &fine])),
        ("information", anonymous(11), message(7, &[ours])),
    ];
    for (name, request, want) in table {
        assert_eq!(reply(&request, prefix()), Some(want), "{name}");
    }
}

#[test]
fn silence_for_the_rest() {
    let empty = association([0, 0], &[]);
    let theirs: &[u8] = &[0, 2, 0, 3, 1, 2, 3];
    let long = [&[0, 1, 0, 131][..], &[7; 131]].concat();
    let table = [
        ("empty", vec![]),
        ("cut head", vec![1, 2, 3]),
        ("no client", message(1, &[&empty])),
        ("client without a name", message(1, &[&[0, 1, 0, 0], &empty])),
        ("client with too long a name", message(1, &[&long, &empty])),
        ("solicit with a server", message(1, &[CLIENT, SERVER_OPTION, &empty])),
        ("solicit of nothing", message(1, &[CLIENT])),
        ("cut association", message(1, &[CLIENT, &[0, 3, 0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])),
        ("option over the end", message(1, &[CLIENT, &empty[..12]])),
        ("request to nobody", message(3, &[CLIENT, &empty])),
        ("request to another", message(3, &[CLIENT, theirs, &empty])),
        ("confirm of nothing", message(4, &[CLIENT, &empty])),
        ("information of another", message(11, &[CLIENT, theirs])),
        ("advertise", message(2, &[CLIENT, SERVER_OPTION, &empty])),
        ("reply", message(7, &[CLIENT, SERVER_OPTION, &empty])),
        ("relayed", message(12, &[CLIENT, &empty])),
        ("unknown kind", message(99, &[CLIENT, &empty])),
    ];
    for (name, packet) in table {
        assert_eq!(reply(&packet, prefix()), None, "{name}");
    }
}

#[test]
fn hostile_packets_get_bounded_answers_or_none() {
    let many = association([0, 0], &address(ELSEWHERE, 9).repeat(50));
    let seeds = [
        message(1, &[CLIENT, &association([0, 0], &[]), RAPID]),
        message(5, &[CLIENT, SERVER_OPTION, &many]),
        message(4, &[&many, CLIENT]),
    ];
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut answered = 0;
    for round in 0..200_000 {
        let mut packet = seeds[round % seeds.len()].clone();
        if random.next().is_multiple_of(4) {
            packet.resize(random.next() % 1500, 0);
        }
        for _ in 0..random.next() % 6 {
            // Mostly among the first options, where the lengths are.
            let at = if random.next().is_multiple_of(4) { random.next() } else { random.next() % 60 };
            if let Some(byte) = packet.get_mut(at % 1500) {
                *byte = random.next() as u8;
            }
        }
        if let Some(answer) = reply(&packet, prefix()) {
            assert!(answer.len() <= packet.len() + 100, "{} for {}", answer.len(), packet.len());
            assert!(matches!(answer[0], 2 | 7));
            answered += 1;
        }
        let _ = is_solicitation(&packet);
    }
    assert!(answered > 10_000, "{answered}: the packets are too broken to test anything");
    assert_eq!(Ipv6Addr::from(GUEST), prefix().guest());
}
