//! The guest's network: out, in, by name, and what is left of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Form, LABEL, Podman, Vm, directory, rootfs, run, source, text, tiny, unique};
use crate::ports::there_and_back;

/// What a server says that only the right one says.
pub const PAGE: &str = "the right page";

/// A network of podman's, with its resolver; gone with this.
pub struct Bridge(pub Podman, pub String);

impl Bridge {
    pub fn new(podman: Podman) -> Self {
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
pub fn plain(podman: Podman, options: &[&str]) -> (Vm, TempDir) {
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

/// A VM of the build tree.
pub fn vm(podman: Podman, podman_options: &[&str], options: &[&str]) -> (Vm, TempDir) {
    vm_by(Form::BuildTree, podman, podman_options, options)
}

/// A VM by a form of the runtime.
pub fn vm_by(form: Form, podman: Podman, podman_options: &[&str], options: &[&str]) -> (Vm, TempDir) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let mut run = tiny(podman, form, &what, podman_options);
    run.options = options;
    (run.detached(), root)
}

/// Starts servers in the guest: [`PAGE`] on TCP port 80, an echo on UDP port 5353.
pub fn serve(vm: &Vm) {
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
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The page by HTTP from the host's side.
pub fn page(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The echo's answer from the host's side; a datagram may be lost.
pub fn echo(address: &str) -> String {
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
pub fn published(tcp: u16, udp: u16) {
    for n in 0..20 {
        let answer = page(&format!("127.0.0.1:{tcp}")).unwrap_or_else(|e| panic!("connection {n}: {e}"));
        assert!(answer.ends_with(PAGE), "connection {n}: {answer}");
    }
    let answer = echo(&format!("127.0.0.1:{udp}"));
    assert!(answer.ends_with("are you there"), "{answer}");
}

/// A server on all the host's addresses that says [`PAGE`] to every caller, to the end of the tests.
pub fn host_server() -> u16 {
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
pub fn wget(url: &str) -> String {
    format!("wget -q -O - {url}")
}

/// Runs a line of shell in the guest, which has to print the page.
#[track_caller]
pub fn gets_page(vm: &Vm, line: &str) {
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", line]), PAGE, "{line}");
}

/// What a VM could leave in a network namespace: interfaces, nft tables, listeners. `enter` is a command that enters.
pub fn traces(enter: &[&str]) -> String {
    let mut args = enter.to_vec();
    args.extend(["sh", "-c", "cut -d: -f1 /proc/self/net/dev; nft list tables; ss -lntuH"]);
    run(args[0], &args[1..])
}

/// Of the host's traces those that can be ours: others are at work there, too.
pub fn our_traces() -> String {
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
    let (six, data) = (free_port(), free_port());
    let ports = [format!("[::1]:{six}:80"), format!("{data}:9000")];
    let options = ["--network", network, "-p", &ports[0], "-p", &ports[1]];
    default_network(Podman::Rootless, &options, |vm| {
        // podman's forwarder speaks IPv6 to the outside and IPv4 to the container.
        let answer = page(&format!("[::1]:{six}")).unwrap();
        assert!(answer.ends_with(PAGE), "{answer}");
        there_and_back(vm, data, 30);
        "10.0.2.2".to_string()
    });
}

#[test]
fn no_network_and_yet_exec() {
    let (vm, _root) = vm(Podman::Rootful, &["--network", "none"], &[]);
    assert_eq!(vm.exec_ok(&["root", "echo", "in"]), "in");
    assert!(!vm.logs().contains("qemu: "), "{}", vm.logs());
}
