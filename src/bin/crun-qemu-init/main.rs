//! The supervisor: the container's process. It runs the VM in an embedded libvirt and lends it the container's console,
//! signals and exit status.

mod balloon;
mod button;
mod confine;
mod console;
mod embedded;
mod events;
mod kvm;
mod lifecycle;
mod machine;
mod privileges;
mod probe;
mod qemu_log;
mod reaper;
mod signals;
mod status;
mod supervise;
mod terminal;
mod virtiofs;

use std::ffi::OsString;
use std::path::PathBuf;

use crun_qemu::error::Error;
use crun_qemu::{exec, network};

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A panic is a failed VM like any other; the message itself is on stderr by then.
    let status = std::panic::catch_unwind(|| dispatch(&args)).unwrap_or(1);
    exit_now(status)
}

/// Runs the subcommand; returns the process' exit status.
fn dispatch(args: &[OsString]) -> i32 {
    let words: Vec<&str> = args.iter().map(|a| a.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        [] => supervise::run(),
        ["probe", dir] => probe(dir, false),
        ["probe", dir, "--emulated"] => probe(dir, true),
        ["kvm"] => kvm::run(),
        ["status"] => status(status::print(false)),
        ["status", "--json"] => status(status::print(true)),
        ["exec", ..] => exec::run(args[1..].to_vec(), |tap| Ok(network::addresses(tap)?.guest.into())),
        _ => status(Err(Error::new(
            "crun-qemu-init",
            "usage: crun-qemu-init [probe DIR [--emulated] | kvm | exec [--cwd DIR] -- USER [CMD…] | status [--json]]",
        ))),
    }
}

/// libvirt and QEMU are not let loose on the host.
fn probe(dir: &str, emulated: bool) -> i32 {
    let dir = PathBuf::from(dir);
    confine::run(|| status(probe::run(&dir, emulated))).unwrap_or_else(|e| status(Err(e)))
}

fn status(result: crun_qemu::error::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(e) => {
            terminal::say(&e.to_string());
            1
        }
    }
}

/// Ends the process without running the destructors of the libraries: libvirt's threads are still at work.
fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and touches no memory of ours; nothing of ours is buffered.
    unsafe { libc::_exit(status) }
}
