//! The guest's IPv6, as long as the container has IPv6.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::harness::{
    Bridge, Form, PAGE, PATIENCE, Podman, Vm, container, eventually_within, free_port, gets_page, rootfs, start, text,
    tiny, wget,
};

/// The guest's address by DHCPv6.
const GUEST: &str = "fd63:7275:6e71::2";

/// A field of `podman inspect` for the network with IPv6.
fn field(container: &Vm, field: &str) -> String {
    container.inspect(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"))
}

/// Waits until a script in the guest prints output that is `done`.
#[track_caller]
fn until(vm: &Vm, script: &str, done: impl Fn(&str) -> bool) {
    eventually_within(PATIENCE / 4, script, || done(&vm.guest_sh(script)));
}

/// Other containers and the host reach it at the container's address.
#[test]
fn guest_with_dhcpv6_reaches_out_and_is_reached() {
    let podman = Podman::Rootful;
    let network = Bridge::with(podman, &["--ipv6"]);
    let (peer, _root) = container(podman, &["--network", &network.1]);
    let root = rootfs(podman, "systemd");
    let what = root.as_root();
    let published = free_port();
    let options = ["--network", &network.1, "-p", &format!("{published}:22")];
    let vm = tiny(podman, Form::BuildTree, &what, &options).detached();
    until(&vm, "ip -6 addr show", |output| output.contains(&format!("inet6 {GUEST}/128 scope global dynamic")));

    let address = field(&vm, "GlobalIPv6Address");
    let peers = field(&peer, "GlobalIPv6Address");
    let get = format!("exec 3<>/dev/tcp/{peers}/8080; printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    assert!(vm.exec_ok(&["root", "bash", "-c", &get]).ends_with(PAGE));
    let banner = peer.exec(&["/busybox", "timeout", "9", "/busybox", "nc", &address, "22"]);
    assert!(text(&banner.stdout).starts_with("SSH-2.0-"), "{banner:?}");
    // A published port at the host's address on that network.
    let mut stream = TcpStream::connect(format!("[{}]:{published}", field(&vm, "IPv6Gateway"))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(text(&answer), "SSH-2.0-");

    let status = vm.status();
    assert!(status.contains(GUEST) && status.contains(&address), "{status}");
    assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
}

/// The guest learns it from router advertisements.
#[test]
fn ipv6_lasts_as_long_as_the_containers_network() {
    let podman = Podman::Rootful;
    let network = Bridge::with(podman, &["--ipv6"]);
    let (peer, _root) = container(podman, &["--network", &network.1]);
    let (vm, _root) = start(podman, Form::BuildTree, &["--cap-drop", "net_raw"], &[]);
    let routes = "ip -6 route show default";
    let fetch = wget(&format!("http://[{}]:8080/page", field(&peer, "GlobalIPv6Address")));
    assert_eq!(vm.guest_sh(routes), "");
    podman.ok(&["network", "connect", &network.1, &vm.name]);
    until(&vm, routes, |output| output.contains("via fe80::1"));
    until(&vm, "ip -6 addr show dev eth0", |output| {
        output.contains("fd63:7275:6e71:") && !output.contains("tentative")
    });
    gets_page(&vm, &fetch);
    // An administrator of the guest may add the address to which the container's address leads.
    vm.guest_sh(&format!("ip -6 addr add {GUEST}/64 dev eth0; echo {PAGE} > /tmp/page"));
    until(&vm, "ip -6 addr show dev eth0", |output| !output.contains("tentative"));
    vm.exec_ok(&["root", "httpd", "-p", "80", "-h", "/tmp"]);
    let url = format!("http://[{}]/page", field(&vm, "GlobalIPv6Address"));
    assert_eq!(peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", &url]), PAGE);
    podman.ok(&["network", "disconnect", &network.1, &vm.name]);
    until(&vm, routes, str::is_empty);
}

/// slirp4netns announces its addresses by router advertisements, which the container still accepts.
#[test]
fn guest_reaches_out_by_slirp4netns_rootless() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(PAGE.as_bytes()))));
    let network = "slirp4netns:allow_host_loopback=true,enable_ipv6=true";
    let (vm, _root) = start(Podman::Rootless, Form::BuildTree, &["--network", network], &[]);
    until(&vm, "ip -6 addr show dev eth0", |output| {
        output.contains("fd63:7275:6e71:") && !output.contains("tentative")
    });
    gets_page(&vm, &format!("nc -w 20 fd00::2 {port}"));
    assert!(vm.exec_ok(&["-", "ip", "-6", "route", "show", "default"]).contains("via fe80::2 dev tap0 proto ra"));
}
