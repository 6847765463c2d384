//! Waiting for the guest's sshd, and what keeps it from answering.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// One attempt to connect: an answer from a guest on the same link takes no second, whatever its load.
const CONNECT: Duration = Duration::from_secs(2);
/// sshd forks before it greets, which takes its time in an emulated guest. QEMU's user network takes connections
/// before the guest does, so silence has to end, too.
const GREETING: Duration = Duration::from_secs(5);
/// No greeting is longer, bytes: the guest decides what comes.
const LONGEST: u64 = 64 << 10;
/// Between attempts: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The guest's sshd has greeted.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Whether it had to be waited for.
    pub waited: bool,
    /// The protocol's version and the server's, as it says them: `SSH-2.0-OpenSSH_9.2p1`.
    pub version: String,
}

/// Waits until the guest's sshd greets.
///
/// # Errors
/// When `deadline` passes: with what was seen last.
pub fn wait(address: SocketAddr, deadline: Instant) -> Result<Greeting> {
    let mut pause = PAUSES.0;
    loop {
        let e = match greeting(address) {
            Ok(version) => return Ok(Greeting { waited: pause != PAUSES.0, version }),
            Err(e) => e,
        };
        if Instant::now() + pause >= deadline {
            return Err(reason(&e));
        }
        sleep(pause);
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}

/// RFC 4253: the server may send lines before its version.
fn greeting(address: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_read_timeout(Some(GREETING))?;
    for line in BufReader::new(stream.take(LONGEST)).split(b'\n') {
        let line = line.map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => no_greeting(),
            _ => io::Error::new(io::ErrorKind::ConnectionRefused, e),
        })?;
        if line.starts_with(b"SSH-") {
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }
    Err(no_greeting())
}

/// Connected, and no sshd spoke.
fn no_greeting() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "no greeting")
}

/// A guest that refuses a connection is there.
fn reason(e: &io::Error) -> Error {
    if e.kind() == io::ErrorKind::ConnectionRefused {
        Error::new("exec", format!("the guest has no sshd: {e}"))
    } else {
        Error::new("exec", format!("the guest is not reachable: {e}")).hint("its network is not up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn wait_briefly(address: SocketAddr) -> Result<Greeting> {
        wait(address, Instant::now() + Duration::from_millis(300))
    }

    #[test]
    fn tells_apart_what_keeps_sshd_from_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(b"hello\r\nSSH-2.0-x\r\n").unwrap();
            listener.accept().unwrap().0.write_all(b"hello\r\n").unwrap();
        });
        let greeting = Greeting { waited: false, version: "SSH-2.0-x".into() };
        assert_eq!(wait_briefly(address), Ok(greeting));
        let e = wait_briefly(address).unwrap_err().to_string();
        assert!(e.starts_with("qemu: exec: the guest has no sshd: "), "{e}");
        server.join().unwrap();
        let e = wait_briefly(address).unwrap_err().to_string();
        assert!(e.starts_with("qemu: exec: the guest has no sshd: "), "{e}");
    }
}
