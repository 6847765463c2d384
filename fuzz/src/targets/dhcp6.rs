//! What a guest sends to the DHCPv6 server and the router.

use crun_qemu::network::ipv6::Prefix;
use supervisor::ipv6::message::{advertisement, is_solicitation, reply};

use super::knob;

/// Bytes that are read of a packet.
const PACKET: usize = 1500;

pub fn run(data: &[u8]) {
    let Some((knob, packet)) = knob(data) else { return };
    let packet = &packet[..packet.len().min(PACKET)];
    let prefix = Prefix::nth(knob as u16);
    if is_solicitation(packet) {
        let router = advertisement((knob & 1 == 1).then_some(prefix), 1280 + knob as u32);
        assert_eq!(router.len() % 8, 0);
        let mut options = &router[16..];
        while let Some(length) = options.get(1) {
            options = &options[usize::from(*length).max(1) * 8..];
        }
    }
    let Some(answer) = reply(packet, prefix) else { return };
    assert!(matches!(answer[0], 2 | 7));
    assert_eq!(answer[1..4], packet[1..4]);
    // Of an address that is over a guest hears as much as it asked for, and a little of its own.
    assert!(answer.len() <= 2 * PACKET, "{} bytes", answer.len());
    let mut codes = walk(&answer[4..]);
    codes.sort_unstable();
    assert!(codes.contains(&2) && codes.windows(2).all(|pair| pair[0] != pair[1]), "{codes:?}");
}

/// The codes of options that fill these bytes whole; those of addresses in an association as well.
fn walk(mut options: &[u8]) -> Vec<u16> {
    let mut codes = Vec::new();
    while !options.is_empty() {
        let (head, rest) = options.split_at(4);
        let (code, length) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let (value, rest) = rest.split_at(length.into());
        if code == 3 {
            let inner = walk(&value[12..]);
            assert!(!inner.is_empty() && inner.iter().all(|code| *code == 5));
        }
        codes.push(code);
        options = rest;
    }
    codes
}
