//! The few kernel settings of the namespace that the guest's network needs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Network, Ports};
use crate::error::{Context, Result};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Applies them all.
pub(super) fn set(network: &Network) -> Result<()> {
    write(FORWARD, "1")?;
    let conf = |family: &str, key: &str| format!("/proc/sys/net/{family}/conf/{}/{key}", network.tap);
    // The guest must not teach the namespace routes, nor be told of a shorter way to itself.
    write(&conf("ipv4", "accept_redirects"), "0")?;
    write(&conf("ipv4", "send_redirects"), "0")?;
    // An engine's resolver on loopback (Docker's) is reached through NAT only if the tap may route to loopback, and so
    // is everything there in a shared namespace; the rules drop what goes there by itself.
    let localnet = network.ports != Ports::All || network.resolvers.first().is_some_and(|r| r.is_loopback());
    write(&conf("ipv4", "route_localnet"), if localnet { "1" } else { "0" })?;
    let ipv6 = conf("ipv6", "disable_ipv6");
    if Path::new(&ipv6).exists() { write(&ipv6, "1") } else { Ok(()) }
}

/// Writes a setting; one that has its value already may be read-only.
fn write(path: &str, value: &str) -> Result<()> {
    match fs::write(path, value) {
        Err(e) if e.kind() != ErrorKind::NotFound && fs::read_to_string(path).is_ok_and(|old| old.trim() == value) => {
            Ok(())
        }
        result => result.context(path),
    }
}
