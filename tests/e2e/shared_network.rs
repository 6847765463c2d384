//! QEMU's user network: where the container's network is another's, or has no tun device.

use crate::harness::{LABEL, Podman, Vm, directory, run, text, unique};
use crate::network::{
    PAGE, echo, free_port, gets_page, host_server, our_traces, page, plain, published, serve, traces, vm, wget,
};

/// The one line that says what QEMU's user network lacks.
#[track_caller]
fn one_warning(vm: &Vm, want: &str) {
    let output = vm.podman.output(&["logs", &vm.name]);
    let lines = text(&output.stderr);
    let lines: Vec<_> = lines.lines().filter(|line| line.starts_with("qemu: ")).collect();
    assert_eq!(lines, [format!("qemu: network: {want}")]);
}

/// Two VMs in one network that is not theirs, with and without ports of their own.
fn shared(podman: Podman, network: &[&str], traces: impl Fn() -> String, address: &str, out: &str) {
    let before = traces();
    let (tcp, udp) = (free_port(), free_port());
    let ports = format!("{tcp}/tcp,{udp}/udp");
    let (open, _root1) = vm(podman, network, &["--port", &ports]);
    let (closed, _root2) = vm(podman, network, &[]);
    assert_eq!(closed.exec_ok(&["root", "echo", "in"]), "in");
    gets_page(&closed, out);
    serve(&open);
    open.exec_ok(&["root", "sh", "-c", &format!("httpd -p {tcp} -h /tmp/www; setsid /tmp/echo {udp} >&- 2>&- <&- &")]);
    let reaches = "the container shares one (the guest gets QEMU's user network: it reaches out, ";
    one_warning(&closed, &format!("{reaches}nothing reaches it, unless --port names ports)"));
    one_warning(&open, &format!("{reaches}only port {tcp}/tcp, {udp}/udp reaches it)"));
    let answer = page(&format!("{address}:{tcp}")).unwrap();
    assert!(answer.ends_with(PAGE), "{answer}");
    assert!(echo(&format!("{address}:{udp}")).ends_with("are you there"));
    assert_eq!(open.stop(), 0);
    drop((open, closed));
    assert_eq!(traces(), before, "left in the network that was shared");
}

#[test]
fn the_hosts_network() {
    shared(
        Podman::Rootful,
        &["--network", "host"],
        our_traces,
        "127.0.0.1",
        &format!("nc -w 20 10.0.99.2 {}", host_server()),
    );
}

/// A pod; gone with this, with all its containers.
struct Pod(Podman, String);

impl Pod {
    fn new(podman: Podman, options: &[&str]) -> Self {
        let name = unique(LABEL);
        let mut args = vec!["pod", "create", "--label", LABEL, "--name", &name];
        args.extend(options);
        podman.ok(&args);
        Self(podman, name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.output(&["pod", "rm", "-f", "-t", "0", &self.1]);
    }
}

#[test]
fn a_pods_network() {
    let podman = Podman::Rootful;
    let pod = Pod::new(podman, &[]);
    let (peer, _root) = plain(podman, &["--pod", &pod.1]);
    let pid = peer.pid().to_string();
    let enter = ["nsenter", "--net", "--target", &pid];
    let infra = podman.ok(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod.1]);
    let address = podman.ok(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &infra]);
    shared(podman, &["--pod", &pod.1], || traces(&enter), &address, &wget("http://10.0.99.2:8080/page"));
}

#[test]
fn another_containers_network_rootless() {
    let podman = Podman::Rootless;
    let (tcp, udp) = (free_port(), free_port());
    let ports = [format!("{tcp}:80"), format!("{udp}:5353/udp")];
    let (peer, _root) = plain(podman, &["-p", &ports[0], "-p", &ports[1]]);
    let network = format!("container:{}", peer.name);
    let (vm, _root) = vm(podman, &["--network", &network], &["--port", "80,5353/udp"]);
    serve(&vm);
    published(tcp, udp);
    // QEMU's router is the container's loopback, too.
    gets_page(&vm, &wget("http://10.0.99.2:8080/page"));
}

#[test]
fn without_a_tun_device() {
    let dir = directory();
    let runtime = dir.path().join("runtime");
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let script = format!(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c 'mount --bind {} /dev/net && exec {} \"$@\"' sh \"$@\"\n",
        empty.display(),
        env!("CARGO_BIN_EXE_crun-qemu"),
    );
    std::fs::write(&runtime, script).unwrap();
    run("chmod", &["755", runtime.to_str().unwrap()]);
    let (vm, _root) = vm(Podman::Rootful, &["--runtime", runtime.to_str().unwrap()], &[]);
    assert_eq!(vm.exec_ok(&["root", "echo", "in"]), "in");
    gets_page(&vm, &format!("nc -w 20 {} {}", vm.inspect("{{.NetworkSettings.Gateway}}"), host_server()));
    one_warning(
        &vm,
        "/dev/net/tun: No such file or directory \
         (the guest gets QEMU's user network: it reaches out, nothing reaches it, unless --port names ports)",
    );
}
