//! What the host's QEMU can do, found out once, so that no container has to.

use std::fs;
use std::path::Path;

use crun_qemu::error::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, geteuid};

use crate::embedded;

/// Fills `DIR/cache/qemu/capabilities` for the default emulator of this architecture.
///
/// # Errors
/// When QEMU, or libvirt's driver for it, is missing or does not work.
pub fn run(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context(dir.display())?;
    let dir = dir.canonicalize().context(dir.display())?;
    embedded::quiet(&dir);
    embedded::prepare(&dir, None)?;
    if geteuid().is_root() {
        name_the_user(&dir)?;
    }
    let connection = embedded::connect(&dir)?;
    embedded::learn_capabilities(&connection)
}

/// User that libvirt's driver is built to run QEMU as; for root it has to exist, whatever the configuration says.
const QEMU_USER: &str = "libvirt-qemu";

/// Gives this process alone a user database with that user in it, if the host's has none.
fn name_the_user(dir: &Path) -> Result<()> {
    if User::from_name(QEMU_USER).is_ok_and(|u| u.is_some()) {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("mount namespace")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context("/")?;
    for (file, line) in [
        ("passwd", format!("{QEMU_USER}:x:65534:65534::/:/bin/false\n")),
        ("group", format!("{QEMU_USER}:x:65534:\nkvm:x:65534:\n")),
    ] {
        let (ours, system) = (dir.join("etc").join(file), Path::new("/etc").join(file));
        let mut text = fs::read_to_string(&system).context(system.display())?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        fs::write(&ours, text + &line).context(ours.display())?;
        mount(Some(&ours), &system, nothing, MsFlags::MS_BIND, nothing).context(system.display())?;
    }
    Ok(())
}
