//! The few kernel settings of the namespace that the guest's network needs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Loopback, TapConfig};
use crate::error::{Context, Result};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const ALL_SEND_REDIRECTS: &str = "/proc/sys/net/ipv4/conf/all/send_redirects";
/// A directory for each interface, for all, and for those to come.
const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// Applies them all.
pub(super) fn set(network: &TapConfig, loopback: Loopback) -> Result<()> {
    write(FORWARD, "1")?;
    let conf = |family: &str, key: &str| format!("/proc/sys/net/{family}/conf/{}/{key}", network.tap);
    // The guest must not change the namespace's routes by redirects, nor receive any. For sending, either setting is
    // enough: if "all" is off, each interface's own setting still counts.
    write(&conf("ipv4", "accept_redirects"), "0")?;
    write(&conf("ipv4", "send_redirects"), "0")?;
    write(ALL_SEND_REDIRECTS, "0")?;
    // With NAT, an engine's resolver on loopback (Docker's) is reached only if the tap may route to loopback. The same
    // holds for everything on loopback in a shared namespace and for connections from there to the guest. The rules
    // drop other traffic to loopback.
    let localnet = loopback != Loopback::Own || network.resolvers.first().is_some_and(|r| r.is_loopback());
    write(&conf("ipv4", "route_localnet"), if localnet { "1" } else { "0" })?;
    without_ipv6(&network.tap)
}

/// Whether the namespace has IPv6.
pub(super) fn has_ipv6() -> bool {
    fs::read_to_string(format!("{IPV6}/all/disable_ipv6")).is_ok_and(|value| value.trim() == "0")
}

/// Takes IPv6 from the tap.
pub(super) fn without_ipv6(tap: &str) -> Result<()> {
    let ipv6 = format!("{IPV6}/{tap}/disable_ipv6");
    if Path::new(&ipv6).exists() { write(&ipv6, "1") } else { Ok(()) }
}

/// Lets the tap have IPv6 and the namespace forward it.
pub(super) fn with_ipv6(tap: &str) -> Result<()> {
    // Forwarding turns off router advertisements, which the namespace may need for its own addresses; accept_ra=2 keeps
    // them.
    for interface in fs::read_dir(IPV6).context(IPV6)? {
        let path = interface.context(IPV6)?.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            write(&path.display().to_string(), "2")?;
        }
    }
    let set = |key: &str, value: &str| write(&format!("{IPV6}/{tap}/{key}"), value);
    // The guest must not teach the namespace routes.
    set("accept_ra", "0")?;
    set("accept_redirects", "0")?;
    // No other host can have the tap's addresses: we chose them.
    set("accept_dad", "0")?;
    set("addr_gen_mode", "1")?;
    write(&format!("{IPV6}/all/forwarding"), "1")?;
    set("disable_ipv6", "0")
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
