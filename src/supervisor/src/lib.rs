//! The supervisor: the container's process. It runs the VM in an embedded libvirt and lends it the container's console,
//! signals and exit status; called again for an exec or the status, it is that process.

mod balloon;
mod button;
mod confine;
mod console;
pub mod dhcp;
mod embedded;
mod events;
pub mod exec;
pub mod ipv6;
mod kvm;
mod lifecycle;
mod machine;
mod privileges;
mod probe;
mod qemu_log;
mod reaper;
mod signals;
pub mod status;
mod supervise;
mod terminal;
#[cfg(test)]
mod tests;
mod virtiofs;

use std::ffi::OsString;
use std::path::PathBuf;

use crun_qemu::error::{Error, Result};
use crun_qemu::network;

/// Runs the subcommand; returns the process' exit status.
pub fn run(args: &[OsString]) -> i32 {
    let words: Vec<&str> = args.iter().map(|a| a.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        [] => supervise::run(),
        ["probe", dir] => probe(dir, false),
        ["probe", dir, "--emulated"] => probe(dir, true),
        ["kvm"] => kvm::run(),
        ["status"] => finish(status::command::print(false)),
        ["status", "--json"] => finish(status::command::print(true)),
        ["exec", ..] => exec::run(args[1..].to_vec(), |tap| Ok(network::addresses(tap)?.guest.into())),
        _ => finish(Err(Error::new(
            "crun-qemu-init",
            "usage: crun-qemu-init [probe DIR [--emulated] | kvm | exec [--cwd DIR] -- USER [CMD…] | status [--json]]",
        ))),
    }
}

/// Probes QEMU. libvirt and QEMU are confined: the probe runs on the host.
fn probe(dir: &str, emulated: bool) -> i32 {
    let dir = PathBuf::from(dir);
    confine::run(|| finish(probe::run(&dir, emulated))).unwrap_or_else(|e| finish(Err(e)))
}

fn finish(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(e) => {
            terminal::say(e);
            1
        }
    }
}
