//! Networks that are not the VM's own: a pod's, another container's, the host's; and none with a tun device.

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, run, text, tiny, unique};
use crate::network::{
    PAGE, echo, free_port, gets_page, host_server, our_traces, page, plain, published, serve, traces, vm, vm_by, wget,
};

/// Our warnings: lines on stderr, where the console's output is not.
pub fn warnings(vm: &Vm) -> Vec<String> {
    let output = vm.podman.output(&["logs", &vm.name]);
    text(&output.stderr).lines().filter(|line| line.starts_with("qemu: ")).map(str::to_string).collect()
}

/// The one line that says what QEMU's user network lacks.
#[track_caller]
fn one_warning(vm: &Vm, want: &str) {
    assert_eq!(warnings(vm), [format!("qemu: network: {want}")]);
}

/// On the host's network nothing is set up: QEMU's user network, with and without ports.
#[test]
fn the_hosts_network() {
    let podman = Podman::Rootful;
    let before = our_traces();
    let (tcp, udp) = (free_port(), free_port());
    let ports = format!("{tcp}/tcp,{udp}/udp");
    let (open, _root1) = vm(podman, &["--network", "host"], &["--port", &ports]);
    // By way of another container it is the host's as well.
    let network = format!("container:{}", open.name);
    let (closed, _root2) = vm(podman, &["--network", &network], &[]);
    assert_eq!(closed.exec_ok(&["root", "echo", "in"]), "in");
    gets_page(&closed, &format!("nc -w 20 10.0.99.2 {}", host_server()));
    serve(&open);
    open.exec_ok(&["root", "sh", "-c", &format!("httpd -p {tcp} -h /tmp/www; setsid /tmp/echo {udp} >&- 2>&- <&- &")]);
    let reaches = "the container shares one (the guest gets QEMU's user network: it reaches out, ";
    one_warning(&closed, &format!("{reaches}nothing reaches it, unless --port names ports)"));
    one_warning(&open, &format!("{reaches}only port {tcp}/tcp, {udp}/udp reaches it)"));
    let answer = page(&format!("127.0.0.1:{tcp}")).unwrap();
    assert!(answer.ends_with(PAGE), "{answer}");
    assert!(echo(&format!("127.0.0.1:{udp}")).ends_with("are you there"));
    assert_eq!(open.stop(), 0);
    drop((open, closed));
    assert_eq!(our_traces(), before, "left on the host");
}

/// A pod; gone with this, with all its containers.
pub struct Pod(Podman, pub String);

impl Pod {
    pub fn new(podman: Podman, options: &[&str]) -> Self {
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

/// Two VMs and a neighbour in one pod: what each is reached by, and that nothing stays, whatever the end.
#[test]
fn a_pods_network() {
    let podman = Podman::Rootful;
    let (tcp, udp) = (free_port(), free_port());
    let pod = Pod::new(podman, &["-p", &format!("{tcp}:80"), "-p", &format!("{udp}:5353/udp")]);
    let (peer, _root) = plain(podman, &["--pod", &pod.1]);
    let pid = peer.pid().to_string();
    let traces = || traces(&["nsenter", "--net", "--target", &pid]);
    let before = traces();
    let infra = podman.ok(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod.1]);
    let address = podman.ok(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &infra]);

    let (open, _root1) = vm(podman, &["--pod", &pod.1], &["--port", "80/tcp,5353/udp"]);
    same_port(podman, &pod);
    // The plugin sets up in the process that becomes the supervisor, the executable in a hook's.
    let (closed, _root2) = vm_by(Form::Plugin, podman, &["--pod", &pod.1], &[]);
    serve(&open);
    published(tcp, udp);
    assert_eq!(peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/page"]), PAGE);
    gets_page(&closed, &wget(&format!("http://{address}/page")));
    gets_page(&closed, &wget(&format!("http://{address}:8080/page")));
    gets_page(&open, &wget("http://10.0.99.1:8080/page"));
    for vm in [&open, &closed] {
        assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
        // What set it all up is gone, and what stays may not change it.
        let processes = vm.exec_ok(&["-", "sh", "-c", "cat /proc/[0-9]*/comm; cat /proc/[0-9]*/status"]);
        assert!(!processes.contains("crun-qemu-fds"), "{processes}");
        for line in processes.lines().filter_map(|line| line.strip_prefix("CapPrm:")) {
            const NET_ADMIN: u64 = 1 << 12;
            assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap() & NET_ADMIN, 0, "{processes}");
        }
    }

    run("kill", &["-KILL", &closed.pid().to_string()]);
    closed.wait();
    published(tcp, udp);
    assert_eq!(open.stop(), 0);
    assert_eq!(traces(), before, "left after the end");
    drop((open, closed));
    never_started(podman, &pod, &pid, || assert_eq!(traces(), before, "left after a start that was none"));
}

/// A VM that asks for a port that another VM of its network has, or a neighbour.
fn same_port(podman: Podman, pod: &Pod) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for form in [Form::BuildTree, Form::Plugin] {
        let podman_options = ["--pod", &pod.1];
        for (list, taken) in [("81,5353", "5353/udp"), ("81,8080/tcp", "8080/tcp")] {
            let run = Run { options: &["--port", list], ..tiny(podman, form, &what, &podman_options) };
            let (status, message) = run.refused();
            let line =
                format!("qemu: --port {taken}: another VM or container in this network has it (give each its own)");
            assert!(status != Some(0) && message.contains(&line), "{form:?}: {message}");
        }
    }
}

/// A container that is made and never started, one whose QEMU does not start, and one without room for its network.
fn never_started(podman: Podman, pod: &Pod, pid: &str, nothing_left: impl Fn()) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for form in [Form::BuildTree, Form::Plugin] {
        let made = Vm { podman, name: unique(LABEL) };
        let mut args = tiny(podman, form, &what, &["--pod", &pod.1]).args(&made.name);
        args[0] = "create".into();
        podman.ok(&args);
        podman.ok(&["init", &made.name]);
        drop(made);
        nothing_left();
    }

    let podman_options = ["--pod", &pod.1, "--memory", "900t", "--memory-swap", "-1"];
    let failed = Vm { podman, name: unique(LABEL) };
    let output = podman.output(&tiny(podman, Form::BuildTree, &what, &podman_options).args(&failed.name));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    nothing_left();

    for range in ["10.0.99.1/24", "172.31.99.1/24", "192.168.199.1/24"] {
        run("nsenter", &["--net", "--target", pid, "ip", "addr", "add", range, "dev", "lo"]);
    }
    for form in [Form::BuildTree, Form::Plugin] {
        let full = Vm { podman, name: unique(LABEL) };
        let output = podman.output(&tiny(podman, form, &what, &["--pod", &pod.1]).args(&full.name));
        let line =
            "qemu: network of the VM: no free subnet: 10.0.99.0/24, 172.31.99.0/24, 192.168.199.0/24 are all in use";
        assert!(text(&output.stderr).contains(line), "{form:?}: {}", text(&output.stderr));
        nothing_left();
    }
}

#[test]
fn another_containers_network_rootless() {
    let podman = Podman::Rootless;
    let (tcp, udp) = (free_port(), free_port());
    let ports = [format!("{tcp}:80"), format!("{udp}:5353/udp")];
    let (peer, _root) = plain(podman, &["-p", &ports[0], "-p", &ports[1]]);
    let pid = peer.pid().to_string();
    let traces = || traces(&["nsenter", "--net", "--target", &pid]);
    let before = traces();
    let network = format!("container:{}", peer.name);
    let (vm, _root) = vm(podman, &["--network", &network], &["--port", "80,5353/udp"]);
    serve(&vm);
    published(tcp, udp);
    // The guest's router is the container's loopback, too.
    gets_page(&vm, &wget("http://10.0.99.1:8080/page"));
    assert_eq!(vm.stop(), 0);
    assert_eq!(traces(), before, "left after the end");
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
