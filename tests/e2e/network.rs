//! The guest's network: out, in, by name, and what is left of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Form, LABEL, Podman, Vm, directory, rootfs, run, source, text, tiny, unique};

/// What a server says that only the right one says.
const PAGE: &str = "the right page";

/// A network of podman's, with its resolver; gone with this.
struct Bridge(Podman, String);

impl Bridge {
    fn new(podman: Podman) -> Self {
        let name = unique(LABEL);
        podman.ok(&["network", "create", "--label", LABEL, &name]);
        Self(podman, name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.output(&["network", "rm", "-f", &self.1]);
    }
}

/// An ordinary container that serves [`PAGE`] on port 8080, and its root.
fn plain(podman: Podman, options: &[&str]) -> (Vm, TempDir) {
    let root = directory();
    let busybox = run("sh", &["-c", "command -v busybox"]);
    std::fs::copy(busybox, root.path().join("busybox")).unwrap();
    std::fs::write(root.path().join("page"), PAGE).unwrap();
    podman.own(root.path());
    let container = Vm { podman, name: unique(LABEL) };
    let mut args = vec!["run", "-d", "--runtime", "crun", "--name", &container.name, "--label", LABEL];
    args.extend(options);
    args.extend(["--rootfs", root.path().to_str().unwrap(), "/busybox", "httpd", "-f", "-p", "8080", "-h", "/"]);
    podman.ok(&args);
    (container, root)
}

/// A VM of the build tree that has its address.
fn vm(podman: Podman, podman_options: &[&str], options: &[&str]) -> (Vm, TempDir) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let mut run = tiny(podman, Form::BuildTree, &what, podman_options);
    run.options = options;
    (run.detached(), root)
}

/// Starts servers in the guest: [`PAGE`] on TCP port 80, an echo on UDP port 5353.
fn serve(vm: &Vm) {
    static ECHO: OnceLock<(TempDir, Vec<u8>)> = OnceLock::new();
    let (_, echo) = ECHO.get_or_init(|| {
        let (dir, from) = (directory(), source("tests/e2e/udp-echo.c"));
        let to = dir.path().join("echo");
        run("cc", &["-static", "-O", "-o", to.to_str().unwrap(), from.to_str().unwrap()]);
        let bytes = std::fs::read(to).unwrap();
        (dir, bytes)
    });
    let script = format!(
        "cat > /tmp/echo && chmod 755 /tmp/echo && mkdir /tmp/www && printf '%s' '{PAGE}' > /tmp/www/page && \
         httpd -p 80 -h /tmp/www && {{ setsid /tmp/echo 5353 </dev/null >/dev/null 2>&1 & }}"
    );
    let mut command = vm.podman.command();
    command.args(["exec", "-i", &vm.name, "root", "sh", "-c", &script]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(echo).unwrap();
    assert!(child.wait().unwrap().success(), "the guest's servers did not start");
}

/// A port of the host that nobody has.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The page by HTTP from the host's side.
fn page(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The echo's answer from the host's side; a datagram may be lost.
fn echo(address: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut answer = [0; 200];
    for _ in 0..5 {
        socket.send_to(b"are you there", address).unwrap();
        if let Ok((n, _)) = socket.recv_from(&mut answer) {
            return text(&answer[..n]);
        }
    }
    panic!("{address} does not echo");
}

/// Every connection counts: none may be refused or reset once the server is there.
#[track_caller]
fn published(tcp: u16, udp: u16) {
    for n in 0..20 {
        let answer = page(&format!("127.0.0.1:{tcp}")).unwrap_or_else(|e| panic!("connection {n}: {e}"));
        assert!(answer.ends_with(PAGE), "connection {n}: {answer}");
    }
    let answer = echo(&format!("127.0.0.1:{udp}"));
    assert!(answer.ends_with("are you there"), "{answer}");
}

/// A server on all the host's addresses that says [`PAGE`] to every caller, to the end of the tests.
fn host_server() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(PAGE.as_bytes());
            }
        });
        port
    })
}

/// Not with `-T`: with that Debian's static busybox crashes on names.
fn wget(url: &str) -> String {
    format!("wget -q -O - {url}")
}

/// Runs a line of shell in the guest, which has to print the page.
#[track_caller]
fn gets_page(vm: &Vm, line: &str) {
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", line]), PAGE, "{line}");
}

/// What a VM could leave in a network namespace: interfaces, nft tables, listeners. `enter` is a command that enters.
fn traces(enter: &[&str]) -> String {
    let mut args = enter.to_vec();
    args.extend(["sh", "-c", "cut -d: -f1 /proc/self/net/dev; nft list tables; ss -lntuH"]);
    run(args[0], &args[1..])
}

/// Of the host's traces those that can be ours: others are at work there, too.
fn our_traces() -> String {
    let ours = |line: &&str| ["vm-", "crun-qemu", ":22022"].iter().any(|word| line.contains(word));
    traces(&["env"]).lines().filter(ours).map(|line| format!("{line}\n")).collect()
}

/// Processes, by a word of their command line.
fn processes(word: &str) -> String {
    text(&Command::new("pgrep").args(["-af", word]).output().unwrap().stdout)
}

fn container_address(vm: &Vm) -> String {
    vm.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
}

/// Two VMs and an ordinary container on a network with a resolver, all by name.
fn neighbours(podman: Podman) {
    let before = our_traces();
    let bridge = Bridge::new(podman);
    let network = ["--network", &bridge.1];
    let (tcp, udp) = (free_port(), free_port());
    let publish = ["-p".to_string(), format!("{tcp}:80"), "-p".to_string(), format!("{udp}:5353/udp")];
    let mut options = network.to_vec();
    options.extend(publish.iter().map(String::as_str));
    let (server, _root1) = vm(podman, &options, &[]);
    let (client, _root2) = vm(podman, &network, &[]);
    let (peer, _root3) = plain(podman, &network);

    serve(&server);
    published(tcp, udp);
    gets_page(&client, &wget(&format!("http://{}:8080/page", peer.name)));
    gets_page(&client, &wget(&format!("http://{}/page", server.name)));
    // By its container's address a VM reaches itself, too.
    gets_page(&server, &wget(&format!("http://{}/page", container_address(&server))));
    let from_peer = peer.exec_ok(&["/busybox", "wget", "-q", "-O", "-", &format!("http://{}/page", server.name)]);
    assert_eq!(from_peer, PAGE);
    let ids = [server.inspect("{{.Id}}"), client.inspect("{{.Id}}")];
    drop((server, client, peer));
    for id in ids {
        assert_eq!(processes(&id), "", "processes of a container that is gone");
    }
    drop(bridge);
    assert_eq!(our_traces(), before, "left on the host");
}

#[test]
fn vms_and_containers_by_name() {
    neighbours(Podman::Rootful);
}

#[test]
fn vms_and_containers_by_name_rootless() {
    neighbours(Podman::Rootless);
}

/// The engine's default network: an address, a way out, a way in.
fn default_network(podman: Podman, network: &[&str], host: impl Fn(&Vm) -> String) {
    let (tcp, udp) = (free_port(), free_port());
    let publish = ["-p".to_string(), format!("{tcp}:80"), "-p".to_string(), format!("{udp}:5353/udp")];
    let mut options = network.to_vec();
    options.extend(publish.iter().map(String::as_str));
    let (vm, _root) = vm(podman, &options, &[]);
    serve(&vm);
    published(tcp, udp);
    let logs = vm.wait_for("tiny: net eth0 address ", 1);
    let line = logs.lines().find(|line| line.contains("tiny: net eth0")).unwrap();
    assert!(line.contains("address 10.0.99.2/30 router 10.0.99.1 dns 10.0.99.1"), "{line}");
    assert!(!logs.contains("qemu: "), "{logs}");
    gets_page(&vm, &format!("nc -w 20 {} {}", host(&vm), host_server()));
}

#[test]
fn default_network_rootful() {
    let gateway = |vm: &Vm| vm.inspect("{{.NetworkSettings.Gateway}}");
    default_network(Podman::Rootful, &[], gateway);
}

#[test]
fn default_network_rootless() {
    let network = "slirp4netns:allow_host_loopback=true";
    default_network(Podman::Rootless, &["--network", network], |_| "10.0.2.2".to_string());
}

#[test]
fn no_network_and_yet_exec() {
    let (vm, _root) = vm(Podman::Rootful, &["--network", "none"], &[]);
    assert_eq!(vm.exec_ok(&["root", "echo", "in"]), "in");
    assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
}

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
