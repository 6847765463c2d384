//! The container's loopback: which of its ports lead to the guest, and that the guest reaches none of it.

use std::fs;
use std::net::Ipv4Addr;

use crun_qemu::network::set_up;

use crate::places::{Place, connect, ip, serve_name, world_and_container};
use crate::{CONTAINER, GATEWAY, GUEST, TAP, WORLD, network};

/// A resolver on a loopback address and an arbitrary port, like Docker's.
pub fn guest_reaches_resolver() {
    let resolver = Ipv4Addr::new(127, 0, 0, 11);
    let (_world, container) = world_and_container(WORLD, CONTAINER);
    container.run(move || serve_name((resolver, 41234), "docker"));
    set_up(&network(resolver)).unwrap();
    let guest = Place::behind(TAP);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
    });
    assert_eq!(guest.run(|| connect((GATEWAY, 53))), Ok("docker tcp 10.0.99.2; docker udp 10.0.99.2".into()));
    // The tap may route to loopback, but only DNS passes.
    container.run(|| serve_name((Ipv4Addr::LOCALHOST, 9090), "container"));
    no_way_to_loopback(&guest);
}

/// A program that provides the container's network, like pasta: it forwards connections to a published port of the
/// host's loopback to the container's loopback, on which no other program of the container depends.
pub fn forwarder_reaches_the_guest() {
    let container = Place::new(|| {});
    ip("link set lo up");
    ip("tuntap add mode tap name eno1");
    ip("addr add 10.88.0.5/24 dev eno1");
    ip("link set eno1 up");
    ip("route add default via 10.88.0.1");
    set_up(&network(WORLD)).unwrap();
    let guest = Place::behind(TAP);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
        serve_name((Ipv4Addr::UNSPECIFIED, 8080), "guest");
    });
    let by_router = "guest tcp 10.0.99.1; guest udp 10.0.99.1";
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 8080))), Ok(by_router.into()));
    let by_address = "guest tcp 10.88.0.5; guest udp 10.88.0.5";
    assert_eq!(container.run(|| connect((CONTAINER, 8080))), Ok(by_address.into()));
    // An engine's resolver at another loopback address keeps it.
    let other = Ipv4Addr::new(127, 0, 0, 11);
    container.run(move || serve_name((other, 9053), "resolver"));
    let resolver = "resolver tcp 127.0.0.1; resolver udp 127.0.0.1";
    assert_eq!(container.run(move || connect((other, 9053))), Ok(resolver.into()));
    // The guest does not reach the container this way.
    container.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 9090), "container"));
    assert_eq!(guest.run(|| connect((GATEWAY, 9090))).unwrap_err(), "tcp TimedOut");
    no_way_to_loopback(&guest);
}

/// A guest whose kernel sends packets for loopback to the router does not reach the container's port 9090.
fn no_way_to_loopback(guest: &Place) {
    guest.run(|| {
        fs::write("/proc/sys/net/ipv4/conf/guest0/route_localnet", "1").unwrap();
        // The packets could also be forwarded back to the guest, so it listens on that port as well.
        serve_name((GUEST, 9090), "guest");
        ip("rule add pref 1 to 127.0.0.1 lookup 100");
        ip("rule add pref 2 lookup local");
        ip("rule del pref 0");
        ip("route add 127.0.0.1 via 10.0.99.1 table 100 src 10.0.99.2");
    });
    assert_eq!(guest.run(|| connect((Ipv4Addr::LOCALHOST, 9090))).unwrap_err(), "tcp TimedOut");
}
