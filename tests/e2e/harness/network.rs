//! Networks, pods, and servers on the host, in containers and in guests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Dir, LABEL, Podman, Vm, directory, run, static_program, text, unique};

/// What the test's servers serve.
pub const PAGE: &str = "the right page";

/// A network with podman's resolver, removed when this is dropped.
pub struct Bridge(pub Podman, pub String);

impl Bridge {
    /// Creates a network.
    pub fn new(podman: Podman) -> Self {
        Self::with(podman, &[])
    }

    /// Creates a network with options of `podman network create`.
    pub fn with(podman: Podman, options: &[&str]) -> Self {
        let name = unique(LABEL);
        podman.ok(&[&["network", "create", "--label", LABEL], options, &[&name]].concat());
        Self(podman, name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.output(&["network", "rm", "-f", &self.1]);
    }
}

/// A pod, removed with its containers when this is dropped.
pub struct Pod(Podman, pub String);

impl Pod {
    /// Creates a pod with options of `podman pod create`.
    pub fn new(podman: Podman, options: &[&str]) -> Self {
        let name = unique(LABEL);
        podman.ok(&[&["pod", "create", "--label", LABEL, "--name", &name], options].concat());
        Self(podman, name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.0.output(&["pod", "rm", "-f", "-t", "0", &self.1]);
    }
}

/// An ordinary container that serves [`PAGE`] on port 8080, and its root.
pub fn container(podman: Podman, options: &[&str]) -> (Vm, Dir) {
    let root = directory();
    let busybox = run("sh", &["-c", "command -v busybox"]);
    std::fs::copy(busybox, root.join("busybox")).unwrap();
    std::fs::write(root.join("page"), PAGE).unwrap();
    podman.own(root.path());
    let container = Vm::new(podman);
    let mut args = vec!["run", "-d", "--runtime", "crun", "--name", &container.name, "--label", LABEL];
    args.extend(options);
    args.extend(root.as_root());
    args.extend(["/busybox", "httpd", "-f", "-p", "8080", "-h", "/"]);
    podman.ok(&args);
    (container, root)
}

/// Starts servers in the guest: [`PAGE`] on TCP port 80, an echo on UDP port 5353.
pub fn serve(vm: &Vm) {
    static ECHO: OnceLock<Vec<u8>> = OnceLock::new();
    let echo = ECHO.get_or_init(|| static_program("tests/e2e/network/udp-echo.c"));
    let script = format!(
        "cat > /tmp/echo && chmod 755 /tmp/echo && mkdir /tmp/www && printf '%s' '{PAGE}' > /tmp/www/page && \
         httpd -p 80 -h /tmp/www && {{ setsid /tmp/echo 5353 </dev/null >/dev/null 2>&1 & }}"
    );
    let mut command = vm.exec_command(&["-i"], &["root", "sh", "-c", &script]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(echo).unwrap();
    assert!(child.wait().unwrap().success(), "the guest's servers did not start");
}

/// A free port of the host.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Fetches the page by HTTP from the host.
pub fn page(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The UDP echo's answer to the host. A datagram may be lost, so the question is repeated.
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

/// The guest's servers answer on these ports of the host. Every connection counts: none may be refused or reset.
#[track_caller]
pub fn published(tcp: u16, udp: u16) {
    for n in 0..20 {
        let answer = page(&format!("127.0.0.1:{tcp}")).unwrap_or_else(|e| panic!("connection {n}: {e}"));
        assert!(answer.ends_with(PAGE), "connection {n}: {answer}");
    }
    let answer = echo(&format!("127.0.0.1:{udp}"));
    assert!(answer.ends_with("are you there"), "{answer}");
}

/// Port of a server on all addresses of the host that sends [`PAGE`] to every client until the tests end.
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

/// The guest's command that fetches `url`. Not with `-T`, with which Debian's static busybox crashes on names.
pub fn wget(url: &str) -> String {
    format!("wget -q -O - {url}")
}

/// A script in the guest must print the page.
#[track_caller]
pub fn gets_page(vm: &Vm, script: &str) {
    assert_eq!(vm.guest_sh(script), PAGE, "{script}");
}

/// Interfaces, nft tables and listeners in the network namespace that the command `enter` enters.
pub fn traces(enter: &[&str]) -> String {
    let mut args = enter.to_vec();
    args.extend(["sh", "-c", "cut -d: -f1 /proc/self/net/dev; nft list tables; ss -lntuH"]);
    run(args[0], &args[1..])
}

/// The traces on the host that may come from VMs; other programs create others.
pub fn own_traces() -> String {
    let own = |line: &&str| ["vm-", "crun-qemu", ":22022"].iter().any(|word| line.contains(word));
    traces(&["env"]).lines().filter(own).map(|line| format!("{line}\n")).collect()
}
