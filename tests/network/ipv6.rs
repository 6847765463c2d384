//! The guest's IPv6, with the kernel's neighbour discovery and SLAAC as the guest's.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crun_qemu::network::ipv6::{guest as guest_address, prefix};
use crun_qemu::network::{Descriptors, Ports, TapConfig, addresses, set_up};
use crun_qemu::request::ports;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervisor::ipv6::Service;

use crate::places::{Place, TIMEOUT, connect, ip, serve_name, wait_for, world_and_container};
use crate::{CONTAINER, TAP, WORLD, network, tables};

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const WORLD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 1);
const CONTAINER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 5);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd63, 0x7275, 0x6e71, 0, 0, 0, 0, 1);
const GUEST6: Ipv6Addr = Ipv6Addr::new(0xfd63, 0x7275, 0x6e71, 0, 0, 0, 0, 2);

fn world_and_container_with_ipv6() -> (Place, Place) {
    let (world, container) = world_and_container(WORLD, CONTAINER);
    world.run(|| ip("addr add fd00:88::1/64 dev world0 nodad"));
    ip("addr add fd00:88::5/64 dev eth0 nodad");
    ip("route add default via fd00:88::1");
    (world, container)
}

/// Runs the service of a tap as the supervisor does, until the test ends.
fn serve(tap: &'static str, held: &mut Descriptors) {
    let mut service = Service::start(tap, held.router.take().expect("the container has IPv6")).unwrap();
    thread::spawn(move || {
        loop {
            let due = service.deadline().map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = due.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap());
            poll(&mut service.descriptors().map(|fd| PollFd::new(fd, PollFlags::POLLIN)), timeout).unwrap();
            service.turn(Instant::now());
        }
    });
}

/// Output of `ip` in a place.
fn ip_output(place: &Place, arguments: &'static str) -> String {
    place.run(|| {
        let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    })
}

/// Waits until the guest has an address with this beginning, and no tentative address.
fn wait_for_address(guest: &Place, prefix: &str) {
    wait_for(|| {
        let addresses = ip_output(guest, "-6 addr show dev guest0");
        addresses.contains(prefix) && !addresses.contains("tentative")
    });
}

/// Waits until the guest has an address by SLAAC, and gives it the one of DHCPv6.
fn configured(guest: &Place) {
    wait_for_address(guest, "inet6 fd63:7275:6e71:0:");
    assert!(ip_output(guest, "-6 route show default").contains("via fe80::1 dev guest0 proto ra"));
    assert_eq!(ask_for_the_address(guest), GUEST6);
    guest.run(|| ip("addr add fd63:7275:6e71::2/128 dev guest0 nodad"));
}

/// The two rounds of DHCPv6.
fn ask_for_the_address(guest: &Place) -> Ipv6Addr {
    let client = [0, 1, 0, 5, 0, 3, 0, 1, 9];
    let association = [0, 3, 0, 12, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let ask = move |request: Vec<u8>| {
        guest.run(move || {
            let index = nix::net::if_::if_nametoindex("guest0").unwrap();
            let socket = UdpSocket::bind((ANY, 546)).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
            socket.send_to(&request, SocketAddrV6::new(servers, 547, 0, index)).unwrap();
            let mut answer = [0; 500];
            let (length, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!(from, SocketAddrV6::new("fe80::1".parse().unwrap(), 547, 0, index).into());
            answer[..length].to_vec()
        })
    };
    let advertise = ask([&[1, 7, 7, 7][..], &client, &association].concat());
    assert_eq!((&advertise[..4], &advertise[4..13]), (&[2, 7, 7, 7][..], &client[..]));
    let server = &advertise[13..27];
    let reply = ask([&[3, 7, 7, 8][..], &client, server, &association].concat());
    assert_eq!((&reply[..4], &reply[27..35]), (&[7, 7, 7, 8][..], &[0, 3, 0, 40, 1, 2, 3, 4][..]));
    <[u8; 16]>::try_from(&reply[47..63]).unwrap().into()
}

/// As with IPv4: connections of the guest out, in and to itself, and what it must not reach.
pub fn guest_connects_out_and_in() {
    let (world, container) = world_and_container_with_ipv6();
    let mut held = set_up(&network(WORLD)).unwrap().unwrap();
    assert_eq!(prefix(TAP).map(|p| (p.gateway(), p.guest())), Some((GATEWAY6, GUEST6)));
    assert_eq!(addresses(TAP).unwrap().guest, Ipv4Addr::new(10, 0, 99, 2));
    for (interface, accepts) in [("eth0", "2"), ("default", "2"), (TAP, "0")] {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
        assert_eq!(fs::read_to_string(path).unwrap().trim(), accepts, "{interface}");
    }
    serve(TAP, &mut held);
    let guest = Place::behind(TAP);
    configured(&guest);

    world.run(|| serve_name((ANY, 7000), "world"));
    assert_eq!(guest.run(|| connect((WORLD6, 7000))), Ok("world tcp fd00:88::5; world udp fd00:88::5".into()));
    guest.run(|| serve_name((ANY, 8080), "guest"));
    assert_eq!(world.run(|| connect((CONTAINER6, 8080))), Ok("guest tcp fd00:88::1; guest udp fd00:88::1".into()));
    assert_eq!(container.run(|| connect((CONTAINER6, 8080))), Ok("guest tcp fd00:88::5; guest udp fd00:88::5".into()));
    let itself = format!("guest tcp {GATEWAY6}; guest udp {GATEWAY6}");
    assert_eq!(guest.run(|| connect((CONTAINER6, 8080))), Ok(itself));

    // The guest does not reach the container's listeners.
    container.run(|| serve_name((ANY, 9090), "container"));
    assert_eq!(
        container.run(|| connect((Ipv6Addr::LOCALHOST, 9090))),
        Ok("container tcp ::1; container udp ::1".into())
    );
    assert_eq!(container.run(|| connect((Ipv6Addr::LOCALHOST, 8080))).unwrap_err(), "tcp ConnectionRefused");
    assert_eq!(guest.run(|| connect((GATEWAY6, 9090))).unwrap_err(), "tcp TimedOut");
    let by_link = guest.run(|| {
        let index = nix::net::if_::if_nametoindex("guest0").unwrap();
        let to = SocketAddrV6::new("fe80::1".parse().unwrap(), 9090, 0, index);
        TcpStream::connect_timeout(&to.into(), TIMEOUT).map(drop).map_err(|e| e.kind())
    });
    assert_eq!(by_link, Err(std::io::ErrorKind::TimedOut));
    no_other_source(&world, &guest);
    // A route to the guest's own address does not bypass the rules.
    world.run(|| ip("route add fd63:7275:6e71::/64 via fd00:88::5"));
    assert_eq!(world.run(|| connect((GUEST6, 8080))).unwrap_err(), "tcp TimedOut");
}

/// Only packets with the guest's source address leave.
fn no_other_source(world: &Place, guest: &Place) {
    let listener = world.run(|| UdpSocket::bind((WORLD6, 7001)).unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let send = |from: Ipv6Addr| {
        guest.run(move || UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (WORLD6, 7001)).unwrap());
        listener.recv(&mut [0; 9]).map_err(|e| e.kind())
    };
    guest.run(|| {
        ip("addr add fd00:88::77/128 dev lo");
        ip("addr add fd63:7275:6e71::1/128 dev lo");
    });
    assert!(send("fd00:88::77".parse().unwrap()).is_err());
    assert!(send(GATEWAY6).is_err());
    assert_eq!(send(GUEST6), Ok(1));
    guest.run(|| ip("addr del fd63:7275:6e71::1/128 dev lo"));
}

/// The container is connected to a network with IPv6, and disconnected, while the guest runs.
pub fn follows_the_container() {
    let (world, _container) = world_and_container(WORLD, CONTAINER);
    world.run(|| ip("addr add fd00:88::1/64 dev world0 nodad"));
    let mut held = set_up(&network(WORLD)).unwrap().unwrap();
    serve(TAP, &mut held);
    let guest = Place::behind(TAP);
    let default = || ip_output(&guest, "-6 route show default");
    // Time for the guest's first router solicitation.
    wait_for(|| {
        ip_output(&guest, "-6 addr show dev guest0 scope link").lines().any(|line| line.contains("scope link"))
    });
    thread::sleep(Duration::from_secs(3));
    assert_eq!((ip_output(&guest, "-6 addr show dev guest0 scope global"), default()), (String::new(), String::new()));
    for _ in 0..2 {
        ip("addr add fd00:88::5/64 dev eth0 nodad");
        wait_for(|| default().contains("via fe80::1 dev guest0 proto ra"));
        wait_for_address(&guest, "inet6 fd63:7275:6e71:0:");
        assert_eq!(guest_address(TAP), Some(GUEST6));
        ip("addr del fd00:88::5/64 dev eth0");
        wait_for(|| default().is_empty());
        assert_eq!(guest_address(TAP), None);
    }
}

/// In a shared namespace two VMs have different prefixes and their own ports.
pub fn guest_has_named_ports_only() {
    const SECOND: &str = "vm-ffffffff";
    let (world, container) = world_and_container_with_ipv6();
    let set_up = |tap: &str, list: &str| {
        set_up(&TapConfig::new(tap, vec![WORLD], Ports::Only(ports::parse(list).unwrap()))).unwrap().unwrap()
    };
    let (mut held, mut other) = (set_up(TAP, "8080"), set_up(SECOND, "8083"));
    assert_eq!(prefix(SECOND).unwrap().guest().to_string(), "fd63:7275:6e71:1::2");
    serve(TAP, &mut held);
    serve(SECOND, &mut other);
    let guest = Place::behind_queues(TAP);
    configured(&guest);
    let second = Place::behind_queues(SECOND);
    wait_for_address(&second, "inet6 fd63:7275:6e71:1:");
    second.run(|| ip("addr add fd63:7275:6e71:1::2/128 dev guest0 nodad"));

    guest.run(|| [8080, 9090].map(|port| serve_name((ANY, port), "guest")));
    second.run(|| serve_name((ANY, 8083), "second"));
    container.run(|| [(ANY, 9090), (CONTAINER6, 9092)].map(|at| serve_name(at, "neighbour")));
    for (port, want) in [
        (8080, "guest tcp fd00:88::1; guest udp fd00:88::1"),
        (8083, "second tcp fd00:88::1; second udp fd00:88::1"),
        (9090, "neighbour tcp fd00:88::1; neighbour udp fd00:88::1"),
    ] {
        assert_eq!(world.run(move || connect((CONTAINER6, port))), Ok(want.into()), "{port}");
    }
    // IPv6's loopback does not lead to the guest.
    assert_eq!(container.run(|| connect((Ipv6Addr::LOCALHOST, 8080))).unwrap_err(), "tcp ConnectionRefused");
    let by_second = "second tcp fd63:7275:6e71:1::1; second udp fd63:7275:6e71:1::1";
    assert_eq!(guest.run(|| connect((CONTAINER6, 8083))), Ok(by_second.into()));
    let by_neighbour = guest.run(|| connect((CONTAINER6, 9092))).unwrap();
    assert!(by_neighbour.starts_with("neighbour tcp fd63:7275:6e71:"), "{by_neighbour}");

    drop((guest, second, held));
    assert!(prefix(TAP).is_none() && prefix(SECOND).is_some());
    drop(other);
    assert_eq!(tables(), "");
}

/// In a namespace without IPv6 the guest has none, without a warning.
pub fn guest_has_none() {
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    world_and_container(WORLD, CONTAINER);
    assert!(set_up(&network(WORLD)).unwrap().is_none());
    assert_eq!(tables(), "table ip crun-qemu-vm-1a2b3c4d\n");
    assert!(addresses(TAP).is_ok() && prefix(TAP).is_none());
    let shared = TapConfig::new("vm-ffffffff", vec![WORLD], Ports::Only(vec![]));
    assert!(set_up(&shared).unwrap().unwrap().router.is_none());
}
