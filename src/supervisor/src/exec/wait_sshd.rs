//! Waiting for the guest's sshd, and what keeps it from answering.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::timed::left;
use crun_qemu::error::Error;
use crun_qemu::handoff::paths;

/// One attempt to connect: a guest on the same link answers within a second, whatever its load.
const CONNECT: Duration = Duration::from_secs(2);
/// sshd forks before it greets, which takes its time in an emulated guest. QEMU's user network takes connections
/// before the guest does, so silence has to end, too. All of the greeting has to come in this time.
const GREETING: Duration = Duration::from_secs(5);
/// No greeting is longer, bytes: the guest decides what comes.
const LONGEST: usize = 64 << 10;
/// Most bytes kept of the version line: RFC 4253 allows no more.
const LONGEST_VERSION: usize = 255;
/// Between attempts: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The guest's sshd has greeted.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Whether there was a wait.
    pub waited: bool,
    /// Versions of the protocol and the server in the greeting: `SSH-2.0-OpenSSH_9.2p1`.
    pub version: String,
}

/// Result of an attempt without a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The guest does not answer; contains the system's message.
    Unreachable(String),
    /// The guest itself refuses the connection.
    Refused,
    /// Connections are accepted and closed: a systemd socket unit whose sshd does not start.
    Closed,
    /// Somebody takes connections and does not greet.
    Mute,
}

impl Obstacle {
    /// Error of an exec that met this until its end; `when` is the length of the wait.
    pub fn error(&self, when: &str) -> Error {
        let (is, or) = match self {
            Self::Unreachable(_) => ("is not reachable", "or its network is not up"),
            _ => ("has no sshd", "or its sshd does not start"),
        };
        Error::new("exec", format!("the guest {is}: it {self}, {when}"))
            .hint(format!("it is still booting, {or}: podman logs CONTAINER, podman attach CONTAINER"))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(words) => write!(f, "does not answer on its network ({words})"),
            Self::Refused => f.write_str("answers and refuses the connection"),
            Self::Closed => f.write_str("takes the connection and closes it without a greeting"),
            Self::Mute => f.write_str("takes the connection and does not greet"),
        }
    }
}

/// Waits until the guest's sshd greets.
///
/// # Errors
/// When `deadline` passes: what was seen last.
pub fn wait(address: SocketAddr, deadline: Instant) -> Result<Greeting, Obstacle> {
    let mut pause = PAUSES.0;
    let mut last = None;
    loop {
        // The first has its time in any case: without it nothing would be known.
        let end = if last.is_none() { deadline.max(Instant::now() + GREETING) } else { deadline };
        match attempt(address, end) {
            Ok(version) => return Ok(Greeting { waited: pause != PAUSES.0, version }),
            // An attempt cut short by the deadline is less informative than the one before.
            Err(seen) if left(deadline).is_zero() => return Err(last.unwrap_or(seen)),
            Err(seen) if left(deadline) <= pause => return Err(seen),
            Err(seen) => last = Some(seen),
        }
        sleep(pause);
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}

/// Tries once, for no longer than a guest needs that will answer at all.
///
/// # Errors
/// What was there in place of a greeting.
pub fn look(address: SocketAddr) -> Result<String, Obstacle> {
    attempt(address, Instant::now() + GREETING)
}

/// Tries once, until `deadline` at the latest: the version with which the guest's sshd greets.
///
/// # Errors
/// What was there in its place.
pub fn attempt(address: SocketAddr, deadline: Instant) -> Result<String, Obstacle> {
    let seen = match greeting(address, deadline) {
        Ok(version) => return Ok(version),
        Err(e) => obstacle(&e),
    };
    // QEMU's user network accepts a connection before it knows whether the guest does.
    Err(match seen {
        Obstacle::Closed if address.port() == paths::SSH_PORT => Obstacle::Refused,
        Obstacle::Mute if address.port() == paths::SSH_PORT => Obstacle::Unreachable("no greeting".into()),
        seen => seen,
    })
}

fn obstacle(e: &io::Error) -> Obstacle {
    match e.kind() {
        ErrorKind::ConnectionRefused => Obstacle::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Obstacle::Closed,
        ErrorKind::WouldBlock | ErrorKind::InvalidData => Obstacle::Mute,
        _ => Obstacle::Unreachable(crun_qemu::error::message(e)),
    }
}

/// RFC 4253: the server may send lines before its version.
fn greeting(address: SocketAddr, deadline: Instant) -> io::Result<String> {
    let within = |time: Duration| left(deadline).min(time).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, within(CONNECT))?;
    let end = Instant::now() + within(GREETING);
    let (mut said, mut at) = (Vec::new(), 0);
    while said.len() < LONGEST {
        if let Some(end) = said[at..].iter().position(|&b| b == b'\n') {
            let line = &said[at..at + end];
            if line.starts_with(b"SSH-") {
                let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_VERSION)]);
                return Ok(line.trim_end().to_owned());
            }
            at += end + 1;
            continue;
        }
        // For each read, so that a byte now and then does not extend the wait.
        let time = left(end);
        if time.is_zero() {
            return Err(ErrorKind::WouldBlock.into());
        }
        stream.set_read_timeout(Some(time))?;
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => said.extend(&part[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Err(ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    fn wait_briefly(address: SocketAddr) -> Result<Greeting, Obstacle> {
        wait(address, Instant::now() + Duration::from_millis(300))
    }

    #[test]
    fn tells_apart_what_keeps_sshd_from_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(b"hello\r\nSSH-2.0-x\r\n").unwrap();
            listener.accept().unwrap().0.write_all(b"hello\r\n").unwrap();
            listener
        });
        let greeting = Greeting { waited: false, version: "SSH-2.0-x".into() };
        assert_eq!(wait_briefly(address), Ok(greeting));
        assert_eq!(attempt(address, Instant::now() + GREETING), Err(Obstacle::Closed));
        // The kernel accepts the connection, and no program answers.
        let listener = server.join().unwrap();
        assert_eq!(wait_briefly(address), Err(Obstacle::Mute));
        drop(listener);
        assert_eq!(wait_briefly(address), Err(Obstacle::Refused));
        assert_eq!(obstacle(&ErrorKind::TimedOut.into()), Obstacle::Unreachable("timed out".into()));
    }

    #[test]
    fn says_what_it_is_and_where_to_look() {
        let want = "exec: the guest is not reachable: it does not answer on its network (No route to host), after \
                    5 s (it is still booting, or its network is not up: podman logs CONTAINER, podman attach CONTAINER)";
        assert_eq!(Obstacle::Unreachable("No route to host".into()).error("after 5 s").to_string(), want);
        let want = "exec: the guest has no sshd: it answers and refuses the connection, after 5 s (it is still \
                    booting, or its sshd does not start: podman logs CONTAINER, podman attach CONTAINER)";
        assert_eq!(Obstacle::Refused.error("after 5 s").to_string(), want);
    }

    /// A server that keeps sending without a version line does not extend the wait.
    #[test]
    fn a_greeting_in_drops() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    while (&stream).write_all(b"S").is_ok() {
                        sleep(Duration::from_millis(50));
                    }
                });
            }
        });
        let (done, ended) = channel();
        std::thread::spawn(move || done.send(wait_briefly(address)));
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(Err(Obstacle::Mute)));
    }
}
