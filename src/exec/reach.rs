//! Waiting for the guest's sshd, and what keeps it from answering.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::alive;
use crate::error::{Error, Result};

/// One attempt to connect: an answer from a guest on the same link takes no second, whatever its load.
const CONNECT: Duration = Duration::from_secs(2);
/// sshd forks before it greets, which takes its time in an emulated guest. QEMU's user network takes connections
/// before the guest does, so silence has to end, too.
const GREETING: Duration = Duration::from_secs(5);
/// Between attempts: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Waits until the guest's sshd greets; returns whether it had to be waited for.
///
/// # Errors
/// When the VM has ended, or `deadline` passes: then with what was seen last.
pub fn wait(address: SocketAddr, alive: &Path, deadline: Instant) -> Result<bool> {
    let mut pause = PAUSES.0;
    loop {
        if alive::ended(alive) {
            return Err(not_running());
        }
        let Err(e) = greeting(address) else { return Ok(pause != PAUSES.0) };
        if Instant::now() + pause >= deadline {
            return Err(reason(&e));
        }
        sleep(pause);
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}

/// The VM has ended.
pub fn not_running() -> Error {
    Error::new("exec", "the VM is not running")
}

/// RFC 4253: the server may send lines before its version, all of them start the conversation.
fn greeting(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_read_timeout(Some(GREETING))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(Silent::KIND, Silent),
        _ => io::Error::new(io::ErrorKind::ConnectionRefused, e),
    })
}

/// Connected, and nothing came.
#[derive(Debug)]
struct Silent;

impl Silent {
    const KIND: io::ErrorKind = io::ErrorKind::ConnectionRefused;
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no greeting")
    }
}

impl std::error::Error for Silent {}

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

    fn wait_briefly(address: SocketAddr, alive: &Path) -> Result<bool> {
        wait(address, alive, Instant::now() + Duration::from_millis(300))
    }

    #[test]
    fn tells_apart_what_keeps_sshd_from_answering() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alive");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            listener.accept().unwrap().0.write_all(b"SSH-2.0-x\r\n").unwrap();
            drop(listener.accept().unwrap());
        });
        let held = alive::hold(&path).unwrap();
        assert_eq!(wait_briefly(address, &path), Ok(false));
        let e = wait_briefly(address, &path).unwrap_err().to_string();
        assert!(e.starts_with("qemu: exec: the guest has no sshd: "), "{e}");
        server.join().unwrap();
        let e = wait_briefly(address, &path).unwrap_err().to_string();
        assert!(e.starts_with("qemu: exec: the guest has no sshd: "), "{e}");
        drop(held);
        assert_eq!(wait_briefly(address, &path), Err(not_running()));
    }
}
