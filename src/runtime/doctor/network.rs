//! Whether the guest's network can be set up: tried in a namespace that ends with the process.

use std::fs;
use std::process::{Command, Stdio};

use crun_qemu::error::{self, Context, Result};
use crun_qemu::network::{Ports, TapConfig, set_up};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// The option of `doctor` that calls [`in_a_new_namespace`]: the namespace is a process's own.
pub const OPTION: &str = "--try-network";

/// Sets up the network, for this process only.
///
/// # Errors
/// The kernel lacks something.
pub fn in_a_new_namespace() -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNET).context("network namespace")?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context("user namespace")?;
        let maps =
            [("setgroups", "deny".into()), ("uid_map", format!("0 {user} 1")), ("gid_map", format!("0 {group} 1"))];
        for (name, text) in maps {
            fs::write(format!("/proc/self/{name}"), text).context(name)?;
        }
    }
    set_up(&TapConfig::new("vm-doctor", Vec::new(), Ports::All)).map(drop)
}

/// Has another process do it.
pub fn can_be_set_up() -> std::result::Result<(), String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let child = Command::new(exe).args(["doctor", OPTION]).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&child.stderr);
    if child.status.success() { Ok(()) } else { Err(error::of_line(said.trim()).to_string()) }
}
