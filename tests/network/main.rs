//! The guest's network with real namespaces for the world, the container and the guest, connected as in a container; a
//! thread forwards frames in place of QEMU. Each test runs itself again below `unshare`.

#[macro_use]
mod places;
mod ipv6;
mod loopback;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crun_qemu::network::{Addresses, Descriptors, Ports, TapConfig, addresses, fd_store, set_up};
use crun_qemu::request::ports;
use nix::unistd::Pid;
use places::{
    Place, TIMEOUT, again_below_unshare, connect, ip, serve_name, serve_name_by_tcp, serve_name_by_udp, wait_for,
    world_and_container,
};
use supervisor::dhcp;

const TAP: &str = "vm-1a2b3c4d";
const WORLD: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 5);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 2);

fn network(resolver: Ipv4Addr) -> TapConfig {
    TapConfig::new(TAP, vec![resolver], Ports::All)
}

/// Connections of the guest out, in and to itself, and what it must not reach.
fn guest_connects_out_and_in() {
    let (world, container) = world_and_container(WORLD, CONTAINER);
    set_up(&network(WORLD)).unwrap();
    assert_eq!(addresses(TAP).unwrap(), Addresses { gateway: GATEWAY, guest: GUEST, mtu: 1400 });
    let guest = Place::behind(TAP);
    ask_for_the_address(&guest);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
    });

    // Out, with the container's address.
    world.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 7000), "world"));
    world.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 53), "resolver"));
    assert_eq!(guest.run(|| connect((WORLD, 7000))), Ok("world tcp 10.88.0.5; world udp 10.88.0.5".into()));
    assert_eq!(guest.run(|| connect((GATEWAY, 53))), Ok("resolver tcp 10.88.0.5; resolver udp 10.88.0.5".into()));

    // In, from outside, from the container as a port forwarder does it, and from the guest itself.
    guest.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 8080), "guest"));
    assert_eq!(world.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.88.0.1; guest udp 10.88.0.1".into()));
    assert_eq!(container.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.88.0.5; guest udp 10.88.0.5".into()));
    assert_eq!(container.run(|| connect((GUEST, 8080))), Ok("guest tcp 10.0.99.1; guest udp 10.0.99.1".into()));
    assert_eq!(guest.run(|| connect((CONTAINER, 8080))), Ok("guest tcp 10.0.99.1; guest udp 10.0.99.1".into()));
    assert_eq!(redirects(), 0, "the guest got an ICMP redirect");

    // The guest does not reach the container's loopback or listeners on the gateway's address.
    container.run(|| serve_name((Ipv4Addr::UNSPECIFIED, 9090), "container"));
    let loopback = "container tcp 127.0.0.1; container udp 127.0.0.1";
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 9090))), Ok(loopback.into()));
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 8080))).unwrap_err(), "tcp ConnectionRefused");
    assert_eq!(guest.run(|| connect((GATEWAY, 9090))).unwrap_err(), "tcp TimedOut");

    no_other_source(&world, &guest);
}

/// Number of ICMP redirects sent.
fn redirects() -> u32 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: ")).map(|line| line.split(' '));
    let (names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
    values.nth(names.into_iter().position(|name| name == "OutRedirects").unwrap()).unwrap().parse().unwrap()
}

/// Only packets with the guest's source address leave.
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

/// A client without an address gets one by DHCP, in two rounds.
fn ask_for_the_address(guest: &Place) {
    let mut server = dhcp::Server::bind(TAP, "nameserver 10.88.0.1\n").unwrap();
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

/// Sets the network up in a shared namespace: the descriptors on which it depends.
fn set_up_shared(tap: &str, list: &str) -> Descriptors {
    let ports = Ports::Only(ports::parse(list).unwrap_or_default());
    set_up(&TapConfig::new(tap, vec![WORLD], ports)).unwrap().expect("the namespace is shared")
}

fn tables() -> String {
    String::from_utf8(Command::new("nft").args(["list", "tables"]).output().unwrap().stdout).unwrap()
}

/// In a shared namespace the guest has only the named ports, by protocol.
fn guest_has_named_ports_only() {
    let (world, container) = world_and_container(WORLD, CONTAINER);
    let held = set_up_shared(TAP, "8080,8081/tcp,8082/udp");
    // Another VM has another subnet.
    let other = set_up_shared("vm-ffffffff", "8083");
    let other_gateway = Ipv4Addr::new(172, 31, 99, 1);
    assert_eq!(addresses(TAP).unwrap().gateway, GATEWAY);
    assert_eq!(addresses("vm-ffffffff").unwrap().gateway, other_gateway);

    let guest = Place::behind_queues(TAP);
    guest.run(|| {
        ip("addr add 10.0.99.2/30 dev guest0");
        ip("route add default via 10.0.99.1");
        for port in [8080, 8081, 8082, 9090] {
            serve_name((Ipv4Addr::UNSPECIFIED, port), "guest");
        }
    });
    let second = Place::behind_queues("vm-ffffffff");
    second.run(|| {
        ip("addr add 172.31.99.2/30 dev guest0");
        ip("route add default via 172.31.99.1");
        serve_name((Ipv4Addr::UNSPECIFIED, 8083), "second");
    });
    container.run(|| {
        serve_name((Ipv4Addr::UNSPECIFIED, 9090), "neighbour");
        // The other protocols of the guest's ports are free for other containers.
        serve_name_by_udp((Ipv4Addr::UNSPECIFIED, 8081), "neighbour");
        serve_name_by_tcp((Ipv4Addr::UNSPECIFIED, 8082), "neighbour");
        // The guest's ports are in use.
        let taken = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::AddrInUse);
        taken(TcpListener::bind((CONTAINER, 8081)).map(drop));
        taken(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 8082)).map(drop));
    });
    container.run(|| serve_name((Ipv4Addr::LOCALHOST, 9091), "neighbour's own"));
    container.run(|| serve_name((CONTAINER, 9092), "neighbour"));
    // A later VM cannot have the ports of earlier VMs and containers.
    for (port, of) in [("9090/tcp", "tcp"), ("9091/udp", "udp"), ("9092", "tcp"), ("8080/tcp", "tcp")] {
        let network = TapConfig::new("vm-late", vec![WORLD], Ports::Only(ports::parse(port).unwrap()));
        let (number, _) = port.split_once('/').unwrap_or((port, ""));
        let want = format!("--port {number}/{of}: another VM or container in this network has it (give each its own)");
        assert_eq!(set_up(&network).unwrap_err().to_string(), want);
        assert!(addresses("vm-late").is_err());
    }

    for (port, want) in [
        (8080, "guest tcp 10.88.0.1; guest udp 10.88.0.1"),
        (8081, "guest tcp 10.88.0.1; neighbour udp 10.88.0.1"),
        (8082, "neighbour tcp 10.88.0.1; guest udp 10.88.0.1"),
        (8083, "second tcp 10.88.0.1; second udp 10.88.0.1"),
        (9090, "neighbour tcp 10.88.0.1; neighbour udp 10.88.0.1"),
    ] {
        assert_eq!(world.run(move || connect((CONTAINER, port))), Ok(want.into()), "{port}");
    }
    // The guest reaches the other containers by the container's address, and their loopback by the gateway's.
    let neighbour = "neighbour tcp 10.0.99.2; neighbour udp 10.0.99.2";
    assert_eq!(guest.run(|| connect((CONTAINER, 9092))), Ok(neighbour.into()));
    let own = "neighbour's own tcp 10.0.99.2; neighbour's own udp 10.0.99.2";
    assert_eq!(guest.run(|| connect((GATEWAY, 9091))), Ok(own.into()));
    assert_eq!(guest.run(|| connect((CONTAINER, 8083))), Ok("second tcp 172.31.99.1; second udp 172.31.99.1".into()));
    let by_loopback = "guest tcp 10.0.99.1; guest udp 10.0.99.1";
    assert_eq!(container.run(|| connect((Ipv4Addr::LOCALHOST, 8080))), Ok(by_loopback.into()));
    // A route to the guest's own address does not bypass the rules.
    world.run(|| ip("route add 10.0.99.0/30 via 10.88.0.5"));
    assert_eq!(world.run(|| connect((GUEST, 9090))).unwrap_err(), "tcp TimedOut");

    drop((guest, second, held));
    assert!(addresses(TAP).is_err() && addresses("vm-ffffffff").is_ok());
    assert_eq!(tables(), "table ip crun-qemu-vm-ffffffff\ntable ip6 crun-qemu-vm-ffffffff\n");
    drop(other);
    assert_eq!(tables(), "");
}

/// The fd store passes the descriptors on; the network ends with their last owner.
fn descriptors_are_passed_on() {
    world_and_container(WORLD, CONTAINER);
    let dir = tempfile::tempdir().unwrap();
    let start = |first: u32| {
        fd_store::start(set_up_shared(TAP, "80"), dir.path(), "socket", Pid::from_raw(first as i32)).unwrap()
    };
    // The container ends before it has started.
    let mut first = Command::new("sleep").arg("1000").spawn().unwrap();
    start(first.id());
    assert!(addresses(TAP).is_ok());
    first.kill().unwrap();
    first.wait().unwrap();
    wait_for(|| addresses(TAP).is_err() && tables().is_empty());
    // The fd store closes its socket, perhaps last.
    wait_for(|| matches!(fd_store::take(&dir.path().join("socket")), Ok(None)));
    // The descriptors are taken from the fd store.
    start(std::process::id());
    let held = fd_store::take(&dir.path().join("socket")).unwrap().unwrap();
    assert!(addresses(TAP).is_ok() && held.router.is_some());
    assert_eq!(tables(), "table ip crun-qemu-vm-1a2b3c4d\ntable ip6 crun-qemu-vm-1a2b3c4d\n");
    // No other process has the descriptors.
    drop(held);
    wait_for(|| addresses(TAP).is_err() && tables().is_empty());
    // The fd store cannot start.
    let missing = dir.path().join("missing");
    let error = fd_store::start(set_up_shared(TAP, "80"), &missing, "socket", Pid::this()).unwrap_err().to_string();
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(addresses(TAP).is_err() && tables().is_empty());
}

/// The rules as nft prints them. `BLESS=1 cargo test` rewrites the golden files.
fn rules_are_as_listed_by_nft() {
    world_and_container(WORLD, CONTAINER);
    let docker = Ipv4Addr::new(127, 0, 0, 11);
    for (name, ports, resolvers) in [
        ("own", Ports::All, vec![WORLD]),
        ("shared", Ports::Only(ports::parse("80/tcp,443").unwrap()), vec![docker]),
        ("closed", Ports::Only(vec![]), vec![]),
    ] {
        let network = TapConfig::new("vm-golden", resolvers, ports);
        let held = set_up(&network).unwrap();
        for (family, suffix) in [("ip", ""), ("ip6", "6")] {
            let listed = Command::new("nft").args(["list", "table", family, &network.table]).output().unwrap();
            // nft also prints a table's owner.
            let listed = String::from_utf8(listed.stdout).unwrap();
            let lines = listed.lines().map(|line| line.split(" # progname").next().unwrap());
            let got: String = lines.map(|line| format!("{line}\n")).collect();
            let path = format!("{}/../../tests/network/golden/{name}{suffix}.nft", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &got).unwrap();
            }
            assert_eq!(got, fs::read_to_string(&path).unwrap(), "{name}{suffix}");
        }
        drop(held);
        let _ = Command::new("ip").args(["link", "del", "vm-golden"]).output();
    }
}

/// Errors name the cause, and the tap is removed.
fn failures_leave_nothing() {
    world_and_container(WORLD, CONTAINER);
    let error = || set_up(&network(WORLD)).unwrap_err().to_string();
    // Another socket owns a table of the same name.
    let held = set_up_shared("vm-other", "8080");
    let taken = TapConfig { tap: TAP.into(), ..TapConfig::new("vm-other", vec![], Ports::All) };
    let refused = "nf_tables: Operation not permitted \
        (setting up a network takes CAP_NET_ADMIN in its namespace)";
    assert_eq!(set_up(&taken).unwrap_err().to_string(), refused);
    assert!(addresses(TAP).is_err(), "the tap stayed");
    drop(held);
    places::mount(&["-t", "tmpfs", "none", "/dev/net"]);
    assert!(error().starts_with("/dev/net/tun: "), "{}", error());
}

below_unshare! {
    guest_connects_out_and_in: guest_connects_out_and_in_rootful, guest_connects_out_and_in_rootless;
    guest_has_named_ports_only: guest_has_named_ports_only_rootful, guest_has_named_ports_only_rootless;
    loopback::forwarder_reaches_the_guest: forwarder_reaches_the_guest_rootful, forwarder_reaches_the_guest_rootless;
    loopback::guest_reaches_resolver: guest_reaches_resolver_rootful, guest_reaches_resolver_rootless;
    descriptors_are_passed_on: descriptors_are_passed_on_rootful, descriptors_are_passed_on_rootless;
    rules_are_as_listed_by_nft: rules_are_as_listed_by_nft_rootful, rules_are_as_listed_by_nft_rootless;
    failures_leave_nothing: failures_leave_nothing_rootful, failures_leave_nothing_rootless;
    ipv6::guest_connects_out_and_in: ipv6_guest_connects_out_and_in_rootful, ipv6_guest_connects_out_and_in_rootless;
    ipv6::follows_the_container: ipv6_follows_the_container_rootful, ipv6_follows_the_container_rootless;
    ipv6::guest_has_named_ports_only: ipv6_guest_has_named_ports_only_rootful, ipv6_guest_has_named_ports_only_rootless;
    ipv6::guest_has_none: guest_has_no_ipv6_rootful, guest_has_no_ipv6_rootless;
}
