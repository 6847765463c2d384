//! Ports, addresses and names that podman's options set.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::thread;

use crate::harness::{
    Bridge, Form, PAGE, PATIENCE, Podman, Vm, container, echo, free_port, gets_page, page, rootfs, serve, start, text,
    tiny, wget,
};

/// Pseudorandom bytes (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_ne_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends data to the guest's port 9000, which is `published`, and receives it again.
pub fn there_and_back(vm: &Vm, published: u16, mebibytes: usize) {
    let sent = noise(mebibytes << 20);
    let mut stream = listening(vm, published, "> /tmp/blob");
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let length = sent.len();
    let has_all =
        format!("for n in $(seq 600); do [ $(stat -c %s /tmp/blob) != {length} ] || exit 0; sleep 0.1; done; exit 1");
    vm.guest_sh(&has_all);
    let mut stream = listening(vm, published, "< /tmp/blob");
    let mut came_back = Vec::new();
    stream.read_to_end(&mut came_back).unwrap();
    // assert_eq would print both files.
    assert!(came_back == sent, "{} bytes came back, and differ", came_back.len());
    vm.exec_ok(&["root", "rm", "/tmp/blob"]);
}

/// A script that waits until a program of the guest listens on a port.
fn until_listening(port: u16) -> String {
    format!("until grep -q ':{port:04X} .*:0000 0A' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done")
}

/// A connection to a netcat on the guest's port 9000, with `file` as its stdin or stdout.
fn listening(vm: &Vm, published: u16, file: &str) -> TcpStream {
    let input = if file.starts_with('<') { "" } else { "</dev/null" };
    let server = format!("setsid nc -l -p 9000 {file} {input} 2>&- & {}", until_listening(9000));
    vm.guest_sh(&server);
    let stream = TcpStream::connect(("127.0.0.1", published)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The first of two consecutive free ports of the host.
fn free_pair() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..100).map(|_| free_port()).find(|port| *port < u16::MAX && free(port + 1)).unwrap()
}

/// A DNS server that answers one question with "no such name" and returns the question.
fn resolver(address: &str) -> thread::JoinHandle<Vec<u8>> {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = socket.recv_from(&mut question).unwrap();
        let mut answer = question[..length].to_vec();
        answer[2] |= 0x80;
        answer[3] = 3;
        socket.send_to(&answer, from).unwrap();
        question[..length].to_vec()
    })
}

/// Two networks, a fixed address and MAC, ports of every kind, a network that is connected later, and much data.
#[test]
fn networks_addresses_and_ports_are_the_guests() {
    let podman = Podman::Rootful;
    let (first, second, third) = (Bridge::new(podman), Bridge::new(podman), Bridge::new(podman));
    let subnet = podman.ok(&["network", "inspect", "--format", "{{(index .Subnets 0).Subnet}}", &first.1]);
    let address = format!("{}.77", subnet.rsplit_once('.').unwrap().0);
    let mac = "52:54:00:0a:0b:0c";
    let (pair, high, udp) = (free_pair(), free_port(), free_port());
    let networks = [format!("{}:ip={address},mac={mac}", first.1), second.1.clone()];
    let ports = [format!("{pair}-{}:8000-8001", pair + 1), format!("{high}:40000"), format!("{udp}:40000/udp")];
    let mut options = vec!["--memory", "768m", "--hostname", "web", "--dns-search", "example.test"];
    options.extend(networks.iter().flat_map(|network| ["--network", network]));
    options.extend(ports.iter().flat_map(|port| ["-p", port]));
    let data = free_port();
    let data_port = format!("{data}:9000");
    options.extend(["-p", &data_port]);
    let (vm, _root) = start(podman, Form::BuildTree, &options, &[]);
    let (neighbour, _root2) = container(podman, &["--network", &first.1]);
    let (far, _root3) = container(podman, &["--network", &second.1]);
    let (newcomer, _root4) = container(podman, &["--network", &third.1]);

    // No program of the guest listens yet.
    assert_eq!(vm.exec_ok(&["root", "hostname"]), "web");
    assert!(page(&format!("127.0.0.1:{high}")).map_or(true, |answer| answer.is_empty()));
    serve(&vm);
    vm.guest_sh("for p in 8000 8001 40000; do httpd -p $p -h /tmp/www; done; setsid /tmp/echo 40000 >&- 2>&- <&- &");
    for port in [pair, pair + 1, high] {
        let answer = page(&format!("127.0.0.1:{port}")).unwrap();
        assert!(answer.ends_with(PAGE), "{port}: {answer}");
    }
    assert!(echo(&format!("127.0.0.1:{udp}")).ends_with("are you there"));

    // The guest is reached by the container's addresses and sees the addresses of its clients.
    assert_eq!(vm.inspect(&format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", first.1)), address);
    // podman may make either network the first.
    let macs = vm.container_sh("cat /sys/class/net/eth?/address");
    assert!(macs.lines().any(|line| line == mac), "{macs}");
    let server = format!("httpd -f -vv -p 81 -h /tmp/www >/tmp/log 2>&1 </dev/null & {}", until_listening(81));
    vm.guest_sh(&server);
    let fetch = |from: &Vm, url: &str| {
        let output = from.exec(&["/busybox", "wget", "-q", "-O", "-", url]);
        format!("{}{}{}", text(&output.stdout), text(&output.stderr), if output.status.success() { "" } else { "!" })
    };
    assert_eq!(fetch(&neighbour, &format!("http://{address}:81/page")), PAGE);
    let client = neighbour.address();
    let log = vm.exec_ok(&["root", "cat", "/tmp/log"]);
    assert!(log.contains(&client) && !log.contains("10.0.99.1"), "{log} does not name {client}");
    for name in [&neighbour.name, &far.name] {
        gets_page(&vm, &wget(&format!("http://{name}:8080/page")));
    }
    let resolv_conf = vm.exec_ok(&["root", "cat", "/etc/resolv.conf"]);
    assert!(resolv_conf.contains("example.test") && resolv_conf.contains("nameserver 10.0.99.1"), "{resolv_conf}");

    // A network is connected and disconnected.
    podman.ok(&["network", "connect", &third.1, &vm.name]);
    let new = vm.inspect(&format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", third.1));
    let url = format!("http://{new}/page");
    assert_eq!(fetch(&newcomer, &url), PAGE);
    let there = newcomer.address();
    gets_page(&vm, &wget(&format!("http://{there}:8080/page")));
    podman.ok(&["network", "disconnect", &third.1, &vm.name]);
    assert_ne!(fetch(&newcomer, &url), PAGE);
    assert_eq!(fetch(&neighbour, &format!("http://{address}/page")), PAGE);

    there_and_back(&vm, data, 200);
}

/// The guest knows names of podman's options and uses the resolver of podman's options.
#[test]
fn names_and_resolver_are_the_guests() {
    let podman = Podman::Rootful;
    let root = rootfs(podman, "cloud");
    let gateway = "10.88.0.1";
    let options = ["--memory", "1g", "--add-host", "db:192.0.2.7", "--dns", gateway];
    let what = root.as_root();
    let vm = tiny(podman, Form::BuildTree, &what, &options).detached();
    assert!(vm.exec_ok(&["debian", "getent", "hosts", "db"]).starts_with("192.0.2.7 "));
    assert!(
        vm.exec_ok(&["debian", "getent", "hosts", "host.containers.internal"]).contains("host.containers.internal")
    );
    let answer = resolver(gateway);
    assert!(!vm.exec(&["debian", "getent", "ahostsv4", "wanted.test."]).status.success());
    let question = answer.join().unwrap();
    assert!(question.windows(7).any(|label| label == b"\x06wanted"), "{question:?}");
}
