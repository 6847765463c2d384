//! Networks of the VM's own: connections out, in and by name, and that nothing is left of them.

use std::process::Command;

use crate::harness::{
    Bridge, Form, PAGE, Podman, Vm, container, free_port, gets_page, host_server, own_traces, page, published, serve,
    start, text, wget,
};

/// Processes whose command line contains a word.
fn processes(word: &str) -> String {
    text(&Command::new("pgrep").args(["-af", word]).output().unwrap().stdout)
}

/// Two VMs and an ordinary container on a network with a resolver reach each other by name.
fn neighbours_reach_each_other(podman: Podman) {
    let before = own_traces();
    let bridge = Bridge::new(podman);
    let network = ["--network", &bridge.1];
    let (tcp, udp) = (free_port(), free_port());
    let publish = ["-p".to_string(), format!("{tcp}:80"), "-p".to_string(), format!("{udp}:5353/udp")];
    let mut options = network.to_vec();
    options.extend(publish.iter().map(String::as_str));
    let (server, _root1) = start(podman, Form::BuildTree, &options, &[]);
    let (client, _root2) = start(podman, Form::BuildTree, &network, &[]);
    let (peer, _root3) = container(podman, &network);

    serve(&server);
    published(tcp, udp);
    gets_page(&client, &wget(&format!("http://{}:8080/page", peer.name)));
    gets_page(&client, &wget(&format!("http://{}/page", server.name)));
    // By the container's address a VM reaches itself.
    gets_page(&server, &wget(&format!("http://{}/page", server.address())));
    let from_peer = peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", &format!("http://{}/page", server.name)]);
    assert_eq!(from_peer, PAGE);
    let ids = [server.inspect("{{.Id}}"), client.inspect("{{.Id}}")];
    drop((server, client, peer));
    for id in ids {
        assert_eq!(processes(&id), "", "processes of a removed container");
    }
    drop(bridge);
    assert_eq!(own_traces(), before, "left on the host");
}

#[test]
fn vms_and_containers_reach_each_other_by_name() {
    neighbours_reach_each_other(Podman::Rootful);
}

#[test]
fn vms_and_containers_reach_each_other_by_name_rootless() {
    neighbours_reach_each_other(Podman::Rootless);
}

/// On the engine's default network the guest has an address and is reached; `host` returns the host's address for it.
fn default_network_works(podman: Podman, network: &[&str], host: impl Fn(&Vm) -> String) {
    let (tcp, udp) = (free_port(), free_port());
    let publish = ["-p".to_string(), format!("{tcp}:80"), "-p".to_string(), format!("{udp}:5353/udp")];
    let mut options = network.to_vec();
    options.extend(publish.iter().map(String::as_str));
    let (vm, _root) = start(podman, Form::BuildTree, &options, &[]);
    serve(&vm);
    published(tcp, udp);
    let logs = vm.wait_for("tiny: net eth0 address ", 1);
    let line = logs.lines().find(|line| line.contains("tiny: net eth0")).unwrap();
    assert!(line.contains("address 10.0.99.2/30 router 10.0.99.1 dns 10.0.99.1"), "{line}");
    assert!(!logs.contains("qemu: "), "{logs}");
    gets_page(&vm, &format!("nc -w 20 {} {}", host(&vm), host_server()));
}

#[test]
fn default_network_works_rootful() {
    let gateway = |vm: &Vm| vm.inspect("{{.NetworkSettings.Gateway}}");
    default_network_works(Podman::Rootful, &[], gateway);
}

#[test]
fn default_network_works_rootless() {
    let network = "slirp4netns:allow_host_loopback=true";
    let (six, data) = (free_port(), free_port());
    let ports = [format!("[::1]:{six}:80"), format!("{data}:9000")];
    let options = ["--network", network, "-p", &ports[0], "-p", &ports[1]];
    default_network_works(Podman::Rootless, &options, |vm| {
        // podman's forwarder accepts IPv6 connections and forwards them to the container by IPv4.
        let answer = page(&format!("[::1]:{six}")).unwrap();
        assert!(answer.ends_with(PAGE), "{answer}");
        super::ports::there_and_back(vm, data, 30);
        "10.0.2.2".to_string()
    });
}

#[test]
fn exec_works_without_a_network() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &["--network", "none"], &[]);
    assert_eq!(vm.exec_ok(&["root", "echo", "in"]), "in");
    assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
}
