//! The supervisor: the container's process. It is also what `podman exec` runs in the container, and what fills the
//! host's cache of QEMU's capabilities.

mod probe;
mod pump;
mod reaper;
mod signals;
mod supervise;
mod terminal;
mod vm;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use crun_qemu::error::{Error, Result};
use crun_qemu::{exec, network};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    if words.first() == Some(&"exec") {
        let guest = |tap: &str| network::addresses(tap).map(|found| IpAddr::V4(found.guest));
        let status = exec::run(args[1..].to_vec(), guest);
        return ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX));
    }
    let done: Result<u8> = match words.as_slice() {
        [] => supervise::run(),
        ["probe", dir] => probe::run(Path::new(dir), false),
        ["probe", dir, "--emulated"] => probe::run(Path::new(dir), true),
        _ => Err(Error::new("crun-qemu-init", "it is not for the command line").hint("see crun-qemu(1)")),
    };
    done.map_or_else(
        |e| {
            eprintln!("{e}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}
