//! `crun-qemu doctor`: what this host has, what it lacks, and the package that has it.

use std::path::Path;
use std::process::Command;

use crun_qemu::error::{Error, Result};
use crun_qemu::host::{self, Host, REQUIREMENTS};

/// Prints a line for each thing; `crun` and `init` are the executables that would be used.
///
/// # Errors
/// Something is missing without which no VM runs.
pub fn run(crun: &str, init: &Path) -> Result<()> {
    let mut missing = 0;
    for requirement in REQUIREMENTS {
        match requirement.find() {
            Ok(path) => line("ok", requirement.what, path),
            Err(error) => {
                missing += 1;
                line("MISSING", requirement.what, &error.to_string());
            }
        }
    }
    plugin(crun, init);
    match Host::detect(init) {
        Ok(host) => {
            device("KVM", &host.kvm, "guests are emulated, which is slow");
            device("tap", &host.tun, "guests get QEMU's user network");
            match host.uefi {
                Some(uefi) => line("ok", "UEFI", &uefi.code),
                None => line("no", "UEFI", "install the package ovmf (Debian) or edk2-ovmf (Fedora)"),
            }
            match host::virtiofsd() {
                Ok(path) => line("ok", "virtiofsd", path),
                Err(error) => line("no", "virtiofsd", &format!("{error}: no directories, no files")),
            }
            let vhost = if host.vhost_net { "/dev/vhost-net" } else { "not usable: QEMU moves the packets itself" };
            line(if host.vhost_net { "ok" } else { "no" }, "vhost-net", vhost);
        }
        Err(error) => {
            missing += 1;
            line("MISSING", "host", &error.to_string());
        }
    }
    match missing {
        0 => Ok(()),
        n => Err(Error::new("doctor", format!("{n} missing"))),
    }
}

/// crun says of a handler that it does not know nothing at all: it starts an ordinary container.
fn plugin(crun: &str, init: &Path) {
    let version = Command::new(crun).arg("--version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let name = text.lines().next().unwrap_or("not installed: install the package crun");
    line(if text.is_empty() { "MISSING" } else { "ok" }, "crun", name);
    let core = init.with_file_name("crun-qemu-core.so");
    match (text.contains("+QEMU"), core.exists()) {
        (true, true) => line("ok", "plugin", "loaded (+QEMU)"),
        (true, false) => line("no", "plugin", &format!("loaded (+QEMU), without {}: run make install", core.display())),
        (false, _) => line("no", "plugin", "not loaded: run make install, or use --runtime crun-qemu"),
    }
}

fn device(what: &str, usable: &std::result::Result<(), String>, otherwise: &str) {
    match usable {
        Ok(()) => line("ok", what, "usable"),
        Err(why) => line("no", what, &format!("{why}: {otherwise}")),
    }
}

fn line(state: &str, what: &str, text: &str) {
    println!("{state:8}{what:24}{text}");
}
