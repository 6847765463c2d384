//! The guest's IPv6: where the container has it, from when to when, and by which ways.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Form, LABEL, PATIENCE, Podman, Vm, rootfs, text, tiny, unique};
use crate::network::{Bridge, PAGE, free_port, gets_page, plain, vm, wget};

/// What the guest's DHCPv6 gets.
const GUEST: &str = "fd63:7275:6e71::2";

/// A network of podman's with both families of addresses.
fn bridge(podman: Podman) -> Bridge {
    let name = unique(LABEL);
    podman.ok(&["network", "create", "--ipv6", "--label", LABEL, &name]);
    Bridge(podman, name)
}

/// A field of the one network that has IPv6.
fn field(container: &Vm, field: &str) -> String {
    container.inspect(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"))
}

/// Waits until a line of shell says something in the guest.
#[track_caller]
fn until(vm: &Vm, line: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE / 4;
    loop {
        let said = vm.exec_ok(&["root", "sh", "-c", line]);
        if wanted(&said) {
            return;
        }
        assert!(Instant::now() < deadline, "{line}: {said}");
        thread::sleep(Duration::from_millis(500));
    }
}

/// A guest that asks by DHCPv6 is reached at the container's address, by neighbours and from the host.
#[test]
fn out_and_in_with_dhcpv6() {
    let podman = Podman::Rootful;
    let network = bridge(podman);
    let (peer, _root) = plain(podman, &["--network", &network.1]);
    let root = rootfs(podman, "systemd");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let published = free_port();
    let options = ["--network", &network.1, "-p", &format!("{published}:22")];
    let vm = tiny(podman, Form::BuildTree, &what, &options).detached();
    until(&vm, "ip -6 addr show", |said| said.contains(&format!("inet6 {GUEST}/128 scope global dynamic")));

    let address = field(&vm, "GlobalIPv6Address");
    let peers = field(&peer, "GlobalIPv6Address");
    let get = format!("exec 3<>/dev/tcp/{peers}/8080; printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    assert!(vm.exec_ok(&["root", "bash", "-c", &get]).ends_with(PAGE));
    let banner = peer.exec(&["/busybox", "timeout", "9", "/busybox", "nc", &address, "22"]);
    assert!(text(&banner.stdout).starts_with("SSH-2.0-"), "{banner:?}");
    // The host's own address on that network, where what is published is the guest's.
    let mut stream = TcpStream::connect(format!("[{}]:{published}", field(&vm, "IPv6Gateway"))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(text(&answer), "SSH-2.0-");

    let status = vm.exec_ok(&["-", "crun-qemu-init", "status"]);
    assert!(status.contains(GUEST) && status.contains(&address), "{status}");
    assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
}

/// A guest that only listens to routers reaches out for as long as the container is on a network with IPv6.
#[test]
fn comes_and_goes_with_the_container_s_network() {
    let podman = Podman::Rootful;
    let network = bridge(podman);
    let (peer, _root) = plain(podman, &["--network", &network.1]);
    let (vm, _root) = vm(podman, &["--cap-drop", "net_raw"], &[]);
    let routes = "ip -6 route show default";
    let fetch = wget(&format!("http://[{}]:8080/page", field(&peer, "GlobalIPv6Address")));
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", routes]), "");
    podman.ok(&["network", "connect", &network.1, &vm.name]);
    until(&vm, routes, |said| said.contains("via fe80::1"));
    until(&vm, "ip -6 addr show dev eth0", |said| said.contains("fd63:7275:6e71:") && !said.contains("tentative"));
    gets_page(&vm, &fetch);
    // The address that the container's leads to may be taken by hand.
    vm.exec_ok(&["root", "sh", "-c", &format!("ip -6 addr add {GUEST}/64 dev eth0; echo {PAGE} > /tmp/page")]);
    until(&vm, "ip -6 addr show dev eth0", |said| !said.contains("tentative"));
    vm.exec_ok(&["root", "httpd", "-p", "80", "-h", "/tmp"]);
    let url = format!("http://[{}]/page", field(&vm, "GlobalIPv6Address"));
    assert_eq!(peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", &url]), PAGE);
    podman.ok(&["network", "disconnect", &network.1, &vm.name]);
    until(&vm, routes, str::is_empty);
}

/// slirp4netns' addresses come by router advertisements, which the container still hears.
#[test]
fn out_by_slirp4netns_rootless() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(PAGE.as_bytes()))));
    let network = "slirp4netns:allow_host_loopback=true,enable_ipv6=true";
    let (vm, _root) = vm(Podman::Rootless, &["--network", network], &[]);
    until(&vm, "ip -6 addr show dev eth0", |said| said.contains("fd63:7275:6e71:") && !said.contains("tentative"));
    gets_page(&vm, &format!("nc -w 20 fd00::2 {port}"));
    assert!(vm.exec_ok(&["-", "ip", "-6", "route", "show", "default"]).contains("via fe80::2 dev tap0 proto ra"));
}
