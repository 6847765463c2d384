//! The guest's network for real: namespaces for the world, the container and the guest, joined as in a container, with
//! a cable of ours in QEMU's place. Each test runs itself again below `unshare`.

mod places;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crun_qemu::network::{Addresses, Network, Ports, addresses, dhcp, set_up, tear_down};
use places::{Place, TIMEOUT, again_below_unshare, connect, ip, serve_name, world_and_container};

const ID: &str = "1a2b3c4d5e6f";
const TAP: &str = "vm-1a2b3c4d";
const WORLD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 5);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 2);

fn network(resolver: Ipv4Addr) -> Network {
    Network::new(ID, vec![resolver], 0)
}

/// The guest's traffic, all of it: out, in, to itself, and what it must not reach.
fn traffic() {
    let (world, container) = world_and_container(WORLD, CONTAINER);
    set_up(&network(WORLD)).unwrap();
    assert_eq!(addresses(TAP).unwrap(), Addresses { gateway: GATEWAY, guest: GUEST, mtu: 1400 });
    let guest = Place::behind(TAP);
    ask_for_the_address(&guest);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
    });

    // Out: under the container's address.
    world.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 7000), "world"));
    world.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 53), "resolver"));
    assert_eq!(guest.run(|| connect((WORLD, 7000))), Ok("world tcp 10.88.0.5; world udp 10.88.0.5".into()));
    assert_eq!(guest.run(|| connect((GATEWAY, 53))), Ok("resolver tcp 10.88.0.5; resolver udp 10.88.0.5".into()));

    // In: from outside, from inside as a port forwarder does, and from the guest itself.
    guest.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 8080), "guest"));
    assert_eq!(world.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.88.0.1; guest udp 10.88.0.1".into()));
    assert_eq!(container.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.88.0.5; guest udp 10.88.0.5".into()));
    assert_eq!(container.run(|| connect((GUEST, 8080))), Ok("guest tcp 10.0.99.1; guest udp 10.0.99.1".into()));
    assert_eq!(guest.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.0.99.1; guest udp 10.0.99.1".into()));

    // The container's loopback is its own, and what listens there or on the gateway is out of the guest's reach.
    container.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 9090), "container"));
    let loopback = "container tcp 127.0.0.1; container udp 127.0.0.1";
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 9090))), Ok(loopback.into()));
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 8080))).unwrap_err(), "tcp ConnectionRefused");
    assert_eq!(guest.run(|| connect((GATEWAY, 9090))).unwrap_err(), "tcp TimedOut");

    no_other_source(&world, &guest);
}

/// A packet with any source but the guest's goes nowhere; one with the guest's does.
fn no_other_source(world: &Place, guest: &Place) {
    let listener = world.run(|| UdpSocket::bind((WORLD, 7001)).unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let send = |from: Ipv4Addr| {
        guest.run(move || UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (WORLD, 7001)).unwrap());
        listener.recv(&mut [0; 9]).map_err(|e| e.kind())
    };
    guest.run(|| ip("addr add 10.88.0.77/32 dev lo"));
    assert!(send(Ipv4Addr::new(10, 88, 0, 77)).is_err());
    assert_eq!(send(GUEST), Ok(1));
}

/// A client without an address gets one from the server, in two rounds.
fn ask_for_the_address(guest: &Place) {
    let mut server = dhcp::Server::bind(TAP).unwrap();
    for (kind, wanted, answer) in [(1, None, 2), (3, Some(GUEST), 5), (3, Some(WORLD), 6)] {
        let client = guest.run(move || {
            let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
            client.set_broadcast(true).unwrap();
            client.set_read_timeout(Some(TIMEOUT)).unwrap();
            nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::BindToDevice, &"guest0".into()).unwrap();
            client.send_to(&places::dhcp_request(kind, wanted), (Ipv4Addr::BROADCAST, 67)).unwrap();
            client
        });
        places::wait_readable(&server);
        server.answer_all().unwrap();
        let mut reply = [0; 600];
        let (length, from) = client.recv_from(&mut reply).unwrap();
        assert_eq!((length, from), (300, (GATEWAY, 67).into()));
        let yours = if answer == 6 { [0; 4] } else { GUEST.octets() };
        assert_eq!((&reply[16..20], &reply[240..243]), (&yours[..], &[53, 1, answer][..]));
    }
}

/// In a shared namespace only the ports named are the guest's, and nothing stays after the end.
fn shared() {
    let (world, container) = world_and_container(WORLD, CONTAINER);
    let network = Network { ports: Ports::Only(vec![8080, 8081]), ..network(WORLD) };
    set_up(&network).unwrap();
    // What a former run left does not stand in the way, nor does it cost the address.
    set_up(&network).unwrap();
    assert_eq!(addresses(TAP).unwrap().gateway, GATEWAY);
    // Another VM: another subnet.
    let other = Network::new("ffffffff", vec![WORLD], 0);
    set_up(&Network { ports: Ports::Only(vec![8082]), ..other.clone() }).unwrap();
    assert_eq!(addresses("vm-ffffffff").unwrap().gateway, Ipv4Addr::new(172, 31, 99, 1));

    let guest = Place::behind(TAP);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
        serve_name((Ipv4Addr::UNSPECIFIED, 8080), "guest");
        serve_name((Ipv4Addr::UNSPECIFIED, 9090), "guest");
    });
    container.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 9090), "neighbour"));
    assert_eq!(world.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.88.0.1; guest udp 10.88.0.1".into()));
    let neighbour = "neighbour tcp 10.88.0.1; neighbour udp 10.88.0.1";
    assert_eq!(world.run(|| connect((CONTAINER, 9090))), Ok(neighbour.into()));
    // A way round the container's address: by route to the guest's own.
    world.run(|| ip("route add 10.0.99.0/30 via 10.88.0.5"));
    assert_eq!(world.run(|| connect((GUEST, 9090))).unwrap_err(), "tcp TimedOut");

    drop(guest);
    for network in [&network, &other] {
        tear_down(network).unwrap();
        assert!(addresses(&network.tap).is_err());
        // Twice is no error.
        tear_down(network).unwrap();
    }
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tables.stdout), "");
}

/// A resolver on loopback that listens on a port of its own choice, as Docker's does.
fn loopback_resolver() {
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
    // The way to it is for DNS alone, though the tap may route to loopback.
    container.run(|| serve_name((Ipv4Addr::LOCALHOST, 9090), "container"));
    guest.run(|| {
        fs::write("/proc/sys/net/ipv4/conf/guest0/route_localnet", "1").unwrap();
        // By the way in for the guest it could also come back to itself, so it listens there as well.
        serve_name((GUEST, 9090), "guest");
        ip("rule add pref 1 to 127.0.0.1 lookup 100");
        ip("rule add pref 2 lookup local");
        ip("rule del pref 0");
        ip("route add 127.0.0.1 via 10.0.99.1 table 100 src 10.0.99.2");
    });
    assert_eq!(guest.run(|| connect((Ipv4Addr::LOCALHOST, 9090))).unwrap_err(), "tcp TimedOut");
}

/// Errors name the cause and the package, and the tap does not stay.
fn failures() {
    world_and_container(WORLD, CONTAINER);
    let error = || set_up(&network(WORLD)).unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    let nft = dir.path().join("nft");
    fs::write(&nft, "#!/bin/sh\necho 'no such thing' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
    places::mount(&["--bind", nft.to_str().unwrap(), "/usr/sbin/nft"]);
    let refused = "qemu: /usr/sbin/nft: no such thing (the kernel needs nf_tables with nat, masquerade and fib)";
    assert_eq!(error(), refused);
    assert!(addresses(TAP).is_err(), "the tap stayed");
    places::mount(&["-t", "tmpfs", "none", "/usr/sbin"]);
    let missing = "qemu: nft: not found in /usr/sbin/nft, /sbin/nft, /usr/bin/nft, /usr/local/sbin/nft \
        (install the package nftables)";
    assert_eq!(error(), missing);
    assert!(addresses(TAP).is_err(), "the tap stayed");
    places::mount(&["-t", "tmpfs", "none", "/dev/net"]);
    assert!(error().starts_with("qemu: "), "{}", error());
}

/// Each of these in a namespace below root's, and in one below an unprivileged user's namespace of its own.
macro_rules! below_unshare {
    ($($body:ident: $rootful:ident, $rootless:ident;)*) => {$(
        #[test]
        fn $rootful() {
            again_below_unshare(stringify!($rootful), "-nm", $body);
        }

        #[test]
        fn $rootless() {
            again_below_unshare(stringify!($rootless), "-Urnm", $body);
        }
    )*};
}

below_unshare! {
    traffic: traffic_rootful, traffic_rootless;
    shared: shared_rootful, shared_rootless;
    loopback_resolver: loopback_resolver_rootful, loopback_resolver_rootless;
    failures: failures_rootful, failures_rootless;
}
