//! Prints the VM's status.

use std::path::Path;

use crate::status::Status;
use crun_qemu::error::{Context, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use crun_qemu::network;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::{balloon, virtiofs};

/// Prints the status as a table, or as JSON.
pub fn print(json: bool) -> Result<()> {
    let config = SupervisorConfig::read()?;
    let mut status = Status::new(&config, Path::new(paths::STATUS))?;
    status.memory_wanted = balloon::read(Path::new(paths::MEMORY));
    if !config.virtiofs.is_empty() {
        status.virtiofsd = Some(virtiofs::version()?);
    }
    if let Some(tap) = &config.tap {
        status.guest_addresses.push(network::addresses(tap)?.guest.to_string());
        status.guest_addresses.extend(network::ipv6::guest(tap).map(|guest| guest.to_string()));
    }
    for interface in getifaddrs().context("network")? {
        let foreign = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            || Some(&interface.interface_name) == config.tap.as_ref();
        let Some(address) = interface.address.filter(|_| !foreign) else { continue };
        let v4 = address.as_sockaddr_in().map(|a| a.ip().to_string());
        let v6 = address.as_sockaddr_in6().map(|a| a.ip()).filter(|ip| !ip.is_unicast_link_local());
        status.container_addresses.extend(v4.or_else(|| v6.map(|ip| ip.to_string())));
    }
    if json {
        println!("{}", serde_json::to_string(&status).context("status")?);
    } else {
        print!("{}", status.table());
    }
    Ok(())
}
