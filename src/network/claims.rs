//! Which VM of a shared network namespace has a port.
//!
//! A claim is a socket with a name that is the namespace's own ("abstract") and that nobody listens on: the kernel gives a
//! name once, and takes it back from whoever ends.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::error::{Context, Error, Result};
use crate::request::ports::Port;

/// Claims the ports in the current network namespace, for as long as what is returned is open.
///
/// # Errors
/// Another has claimed one of them.
pub fn claim(ports: &[Port]) -> Result<Vec<OwnedFd>> {
    let each = ports.iter().flat_map(|port| port.protocols().map(|protocol| (port.number, protocol.name())));
    each.map(|(number, protocol)| one(&format!("{number}/{protocol}"))).collect()
}

fn one(port: &str) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("--port")?;
    let address = UnixAddr::new_abstract(format!("crun-qemu/port/{port}").as_bytes()).context("--port")?;
    match bind(fd.as_raw_fd(), &address) {
        Ok(()) => Ok(fd),
        Err(Errno::EADDRINUSE) => {
            Err(Error::new(format!("--port {port}"), "another VM of this network has it").hint("each its own"))
        }
        Err(e) => Err(e).context("--port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ports::parse;

    #[test]
    fn one_at_a_time() {
        // Few would name these in the network namespace of whoever runs this.
        let list = |text| claim(&parse(text).unwrap()).map_err(|e| e.to_string());
        let held = list("65521,65522/tcp").unwrap();
        assert_eq!(held.len(), 3);
        let taken = |port: &str| format!("qemu: --port {port}: another VM of this network has it (each its own)");
        for (again, port) in [("65521/udp", "65521/udp"), ("65522", "65522/tcp"), ("65523,65521", "65521/tcp")] {
            assert_eq!(list(again).map(drop), Err(taken(port)), "{again}");
        }
        assert!(list("65522/udp,65523").is_ok());
        drop(held);
        assert!(list("65521,65522").is_ok());
    }
}
