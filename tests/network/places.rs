//! Network namespaces for tests, each with a thread that runs in it.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// Long for a packet within one machine, short for a test that expects none.
pub const TIMEOUT: Duration = Duration::from_secs(2);

const INNER: &str = "CRUN_QEMU_TEST_BELOW_UNSHARE";

/// Runs `body` in the namespaces that `unshare FLAGS` creates, by starting this executable again for the one test.
pub fn again_below_unshare(test: &str, flags: &str, body: fn()) {
    if env::var_os(INNER).is_some() {
        return body();
    }
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.arg(flags).args(command).env(INNER, "1");
        unshare.output()
    };
    // Checks this machine without the code under test.
    let needs = "nft list tables && ip link add type veth && exec 3<>/dev/net/tun";
    let reason = match unshare(&["sh", "-c", needs]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(e) => Some(e.to_string()),
    };
    if let Some(reason) = reason {
        println!("SKIP: {test}: {reason}");
        return;
    }
    let exe = env::current_exe().unwrap();
    let output = unshare(&[exe.to_str().unwrap(), "--exact", test, "--nocapture", "--test-threads=1"]).unwrap();
    let printed = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// Runs each function in new namespaces as root, and in new namespaces of a new user namespace.
macro_rules! below_unshare {
    ($($body:path: $rootful:ident, $rootless:ident;)*) => {$(
        #[test]
        fn $rootful() {
            again_below_unshare(stringify!($rootful), "-nm", $body);
        }

        #[test]
        fn $rootless() {
            again_below_unshare(stringify!($rootless), "-Urnm", $body);
        }
    )*};
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace; the namespace ends with it.
pub struct Place {
    jobs: mpsc::Sender<Job>,
    /// The forwarding thread ends when this pipe is closed.
    cable: Option<(PipeWriter, thread::JoinHandle<()>)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((plug, cable)) = self.cable.take() {
            drop(plug);
            cable.join().unwrap();
        }
    }
}

impl Place {
    /// The current namespace, or the one that `enter` enters.
    pub fn new(enter: impl FnOnce() + Send + 'static) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let place = Self { jobs, cable: None };
        thread::spawn(move || inbox.into_iter().for_each(|job| job()));
        place.run(enter);
        place
    }

    /// A new namespace.
    pub fn elsewhere() -> Self {
        Self::new(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
        })
    }

    /// A guest at the other end of the tap: its interface is `guest0`.
    pub fn behind(tap: &str) -> Self {
        Self::behind_queue(open_tap(tap, 0))
    }

    /// The same for a tap with another open queue.
    pub fn behind_queues(tap: &str) -> Self {
        Self::behind_queue(open_tap(tap, libc::IFF_MULTI_QUEUE))
    }

    fn behind_queue(near: File) -> Self {
        let mut guest = Self::elsewhere();
        let far = guest.run(|| {
            let far = open_tap("guest0", 0);
            ip("link set guest0 mtu 1400 up");
            far
        });
        let (end, plug) = pipe().unwrap();
        guest.cable = Some((plug, thread::spawn(move || cable(&near, &far, &end))));
        guest
    }

    /// Runs a job there and returns its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, wait) = mpsc::channel();
        self.jobs.send(Box::new(move || result.send(job()).unwrap())).unwrap();
        wait.recv().expect("the job failed, see above")
    }
}

/// The world, and the current namespace as a container's, with an interface to the world and a default route.
pub fn world_and_container(world: Ipv4Addr, container: Ipv4Addr) -> (Place, Place) {
    let there = Place::elsewhere();
    let here = Place::new(|| {});
    let thread = there.run(nix::unistd::gettid);
    ip("link set lo up");
    ip("link add eth0 mtu 1400 type veth peer name world0");
    ip(&format!("link set world0 netns {thread}"));
    ip(&format!("addr add {container}/24 dev eth0"));
    ip("link set eth0 up");
    there.run(move || {
        ip(&format!("addr add {world}/24 dev world0"));
        ip("link set world0 mtu 1400 up");
    });
    ip(&format!("route add default via {world}"));
    (there, here)
}

/// Opens a tap as QEMU does.
fn open_tap(name: &str, queues: i32) -> File {
    nix::ioctl_write_ptr_bad!(set_iff, libc::TUNSETIFF, libc::ifreq);
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: plain data for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues) as i16;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the kernel reads one ifreq, which lives until the call returns.
    unsafe { set_iff(file.as_raw_fd(), &raw const request) }.unwrap();
    file
}

/// Forwards frames both ways until the other side of `end` is closed.
fn cable(mut near: &File, mut far: &File, end: &PipeReader) {
    let mut frame = vec![0; 70_000];
    loop {
        let mut fds = [near.as_fd(), far.as_fd(), end.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut fds, PollTimeout::NONE).unwrap();
        let ready = fds.map(|fd| fd.any() == Some(true));
        if ready[2] {
            return;
        }
        // A frame that an interface does not accept is lost.
        if ready[0] {
            let length = near.read(&mut frame).unwrap_or(0);
            let _ = far.write(&frame[..length]);
        }
        if ready[1] {
            let length = far.read(&mut frame).unwrap_or(0);
            let _ = near.write(&frame[..length]);
        }
    }
}

/// Runs `ip`.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `mount`.
pub fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

/// Serves `name`, the protocol and the client's address over TCP and UDP.
pub fn serve_name(at: (impl Into<IpAddr>, u16), name: &'static str) {
    let at = (at.0.into(), at.1);
    serve_name_by_tcp(at, name);
    serve_name_by_udp(at, name);
}

/// The same over TCP alone.
pub fn serve_name_by_tcp(at: (impl Into<IpAddr>, u16), name: &'static str) {
    let tcp = TcpListener::bind((at.0.into(), at.1)).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, from)) = tcp.accept() {
            let _ = write!(stream, "{name} tcp {}", from.ip());
        }
    });
}

/// The same over UDP alone.
pub fn serve_name_by_udp(at: (impl Into<IpAddr>, u16), name: &'static str) {
    let udp = UdpSocket::bind((at.0.into(), at.1)).unwrap();
    thread::spawn(move || {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 9]) {
            let _ = udp.send_to(format!("{name} udp {}", from.ip()).as_bytes(), from);
        }
    });
}

/// Asks [`serve_name`] over TCP and then UDP.
pub fn connect(to: (impl Into<IpAddr>, u16)) -> Result<String, String> {
    let say = |protocol: &'static str| move |e: std::io::Error| format!("{protocol} {:?}", e.kind());
    let address = SocketAddr::new(to.0.into(), to.1);
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut tcp = String::new();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(say("tcp"))?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.read_to_string(&mut tcp).map_err(say("tcp"))?;
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    // A connected socket ignores answers from other addresses.
    socket.connect(address).and_then(|()| socket.send(b"x")).map_err(say("udp"))?;
    let mut answer = [0; 99];
    let length = socket.recv(&mut answer).map_err(say("udp"))?;
    Ok(format!("{tcp}; {}", String::from_utf8_lossy(&answer[..length])))
}

/// Waits until `fd` is readable.
pub fn wait_readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(TIMEOUT.as_millis() as u16)), Ok(1), "nothing came");
}

/// A DHCP message of a type (option 53), with a requested address (option 50) if any.
pub fn dhcp_request(kind: u8, wanted: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend([2, 0, 0, 0, 0, 1]);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, kind]);
    if let Some(wanted) = wanted {
        packet.extend([50, 4]);
        packet.extend(wanted.octets());
    }
    packet.push(255);
    packet
}

/// Waits until `what` holds.
#[track_caller]
pub fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen");
}
