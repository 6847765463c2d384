//! What a guest sends to the DHCP server.

use std::net::Ipv4Addr;

use supervisor::dhcp::{Lease, Reply, reply};

use super::knob;

pub fn run(data: &[u8]) {
    let Some((knob, packet)) = knob(data) else { return };
    let (gateway, guest) = (Ipv4Addr::new(10, 0, 99, 1), Ipv4Addr::new(10, 0, 99, 2));
    let search = ["example.org".into(), format!("{}.b.", "a".repeat(63)), "c.".into()];
    let search = search[..knob & 3].to_vec();
    let Some(Reply { packet: answer, to }) =
        reply(packet, &Lease { gateway, guest, mtu: 1500, resolves: knob & 4 == 0, search })
    else {
        return;
    };
    assert!(to == guest || to == Ipv4Addr::BROADCAST);
    assert!((300..=1472).contains(&answer.len()), "{} bytes", answer.len());
    assert_eq!(answer[..4], [2, 1, 6, 0]);
    assert_eq!((&answer[4..8], &answer[28..44]), (&packet[4..8], &packet[28..44]));
    let yours = <[u8; 4]>::try_from(&answer[16..20]).unwrap();
    assert!(yours == [0; 4] || yours == guest.octets());
    assert_eq!(answer[236..240], [99, 130, 83, 99]);
    // Each option once, then the end and nothing more.
    let mut seen = [false; 256];
    let mut rest = &answer[240..];
    while rest[0] != 255 {
        let (code, length) = (usize::from(rest[0]), usize::from(rest[1]));
        assert!(code != 0 && !std::mem::replace(&mut seen[code], true), "option {code}");
        assert!(code != 54 || rest[2..2 + length] == gateway.octets());
        rest = &rest[2 + length..];
    }
    assert!(rest[1..].iter().all(|byte| *byte == 0) && seen[53] && seen[54]);
}
