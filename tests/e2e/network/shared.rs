//! Networks shared with a pod, another container or the host, and a host without a tun device.

use crate::harness::{
    Form, PAGE, Pod, Podman, Run, Vm, container, directory, echo, free_port, gets_page, host_script, host_server,
    own_traces, page, published, rootfs, run, serve, start, text, tiny, traces, wget,
};

/// The VM's only warning is about QEMU's user network.
#[track_caller]
fn one_warning(vm: &Vm, want: &str) {
    assert_eq!(vm.warnings(), [format!("qemu: network: {want}")]);
}

/// On the host's network nothing is set up; the VM has QEMU's user network, with and without ports.
#[test]
fn vms_on_the_hosts_network_have_a_user_network() {
    let podman = Podman::Rootful;
    let before = own_traces();
    let (tcp, udp) = (free_port(), free_port());
    let ports = format!("{tcp}/tcp,{udp}/udp");
    let (open, _root1) = start(podman, Form::BuildTree, &["--network", "host"], &["--port", &ports]);
    // The network of a container on the host's network is the host's.
    let network = format!("container:{}", open.name);
    let (closed, _root2) = start(podman, Form::BuildTree, &["--network", &network], &[]);
    assert_eq!(closed.exec_ok(&["root", "echo", "in"]), "in");
    gets_page(&closed, &format!("nc -w 20 10.0.99.2 {}", host_server()));
    serve(&open);
    open.guest_sh(&format!("httpd -p {tcp} -h /tmp/www; setsid /tmp/echo {udp} >&- 2>&- <&- &"));
    let reaches = "the container shares one (the guest gets QEMU's user network: it reaches out, ";
    one_warning(&closed, &format!("{reaches}nothing reaches it, unless --port names ports)"));
    one_warning(&open, &format!("{reaches}only port {tcp}/tcp, {udp}/udp reaches it)"));
    let answer = page(&format!("127.0.0.1:{tcp}")).unwrap();
    assert!(answer.ends_with(PAGE), "{answer}");
    assert!(echo(&format!("127.0.0.1:{udp}")).ends_with("are you there"));
    assert_eq!(open.stop(), 0);
    drop((open, closed));
    assert_eq!(own_traces(), before, "left on the host");
}

/// Two VMs and a container in one pod; nothing is left of the VMs, however they end.
#[test]
fn vms_of_a_pod_are_reached_and_leave_nothing() {
    let podman = Podman::Rootful;
    let (tcp, udp) = (free_port(), free_port());
    let pod = Pod::new(podman, &["-p", &format!("{tcp}:80"), "-p", &format!("{udp}:5353/udp")]);
    let (peer, _root) = container(podman, &["--pod", &pod.1]);
    let pid = peer.pid().to_string();
    let traces = || traces(&["nsenter", "--net", "--target", &pid]);
    let before = traces();
    let infra = podman.ok(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod.1]);
    let address = podman.ok(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &infra]);

    let (open, _root1) = start(podman, Form::BuildTree, &["--pod", &pod.1], &["--port", "80/tcp,5353/udp"]);
    taken_port_is_refused(podman, &pod);
    // The plugin sets the network up in the process that becomes the supervisor, the executable in a hook.
    let (closed, _root2) = start(podman, Form::Plugin, &["--pod", &pod.1], &[]);
    serve(&open);
    published(tcp, udp);
    assert_eq!(peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/page"]), PAGE);
    gets_page(&closed, &wget(&format!("http://{address}/page")));
    gets_page(&closed, &wget(&format!("http://{address}:8080/page")));
    gets_page(&open, &wget("http://10.0.99.1:8080/page"));
    for vm in [&open, &closed] {
        assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
        // The process that set the network up has ended, and the others may not change it.
        let processes = vm.container_sh("cat /proc/[0-9]*/comm; cat /proc/[0-9]*/status");
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
    failed_starts_leave_nothing(podman, &pod, &pid, || assert_eq!(traces(), before, "left after a failed start"));
}

/// A VM cannot have a port of another VM or of a container of its network.
fn taken_port_is_refused(podman: Podman, pod: &Pod) {
    let root = rootfs(podman, "tiny");
    let what = root.as_root();
    for form in [Form::BuildTree, Form::Plugin] {
        let podman_options = ["--pod", &pod.1];
        for (list, taken) in [("81,5353", "5353/udp"), ("81,8080/tcp", "8080/tcp")] {
            let run = Run { options: &["--port", list], ..tiny(podman, form, &what, &podman_options) };
            let line =
                format!("qemu: --port {taken}: another VM or container in this network has it (give each its own)");
            run.fails_with(&line);
        }
    }
}

/// A container that is created but not started, one whose QEMU does not start, and one without a free subnet.
fn failed_starts_leave_nothing(podman: Podman, pod: &Pod, pid: &str, nothing_left: impl Fn()) {
    let root = rootfs(podman, "tiny");
    let what = root.as_root();
    for form in [Form::BuildTree, Form::Plugin] {
        let created = Vm::new(podman);
        let mut args = tiny(podman, form, &what, &["--pod", &pod.1]).args(&created.name);
        args[0] = "create".into();
        podman.ok(&args);
        podman.ok(&["init", &created.name]);
        drop(created);
        nothing_left();
    }

    let podman_options = ["--pod", &pod.1, "--memory", "900t", "--memory-swap", "-1"];
    let failed = Vm::new(podman);
    let output = podman.output(&tiny(podman, Form::BuildTree, &what, &podman_options).args(&failed.name));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    nothing_left();

    for range in ["10.0.99.1/24", "172.31.99.1/24", "192.168.199.1/24"] {
        run("nsenter", &["--net", "--target", pid, "ip", "addr", "add", range, "dev", "lo"]);
    }
    for form in [Form::BuildTree, Form::Plugin] {
        let full = Vm::new(podman);
        let output = podman.output(&tiny(podman, form, &what, &["--pod", &pod.1]).args(&full.name));
        let line =
            "qemu: network of the VM: no free subnet: 10.0.99.0/24, 172.31.99.0/24, 192.168.199.0/24 are all in use";
        assert!(text(&output.stderr).contains(line), "{form:?}: {}", text(&output.stderr));
        nothing_left();
    }
}

#[test]
fn vm_on_another_containers_network_is_reached_rootless() {
    let podman = Podman::Rootless;
    let (tcp, udp) = (free_port(), free_port());
    let ports = [format!("{tcp}:80"), format!("{udp}:5353/udp")];
    let (peer, _root) = container(podman, &["-p", &ports[0], "-p", &ports[1]]);
    let pid = peer.pid().to_string();
    let traces = || traces(&["nsenter", "--net", "--target", &pid]);
    let before = traces();
    let network = format!("container:{}", peer.name);
    let (vm, _root) = start(podman, Form::BuildTree, &["--network", &network], &["--port", "80,5353/udp"]);
    serve(&vm);
    published(tcp, udp);
    // The guest's router also leads to the container's loopback.
    gets_page(&vm, &wget("http://10.0.99.1:8080/page"));
    assert_eq!(vm.stop(), 0);
    assert_eq!(traces(), before, "left after the end");
}

#[test]
fn vm_without_a_tun_device_has_a_user_network() {
    let dir = directory();
    let empty = dir.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let script = format!(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c 'mount --bind {} /dev/net && exec {} \"$@\"' sh \"$@\"\n",
        empty.display(),
        env!("CARGO_BIN_EXE_crun-qemu"),
    );
    let runtime = host_script(&dir, "runtime", &script);
    let podman_options = ["--runtime", runtime.to_str().unwrap()];
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &podman_options, &[]);
    assert_eq!(vm.exec_ok(&["root", "echo", "in"]), "in");
    gets_page(&vm, &format!("nc -w 20 {} {}", vm.inspect("{{.NetworkSettings.Gateway}}"), host_server()));
    one_warning(
        &vm,
        "/dev/net/tun: No such file or directory \
         (the guest gets QEMU's user network: it reaches out, nothing reaches it, unless --port names ports)",
    );
}
