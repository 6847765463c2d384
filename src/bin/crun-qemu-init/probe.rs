//! Fills a cache of what the host's QEMU can do.

use std::fs;
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::prepare::skeleton::{GROUP, PASSWD};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;

use crate::{reaper, vm};

const KVM: &str = "/dev/kvm";

/// Leaves the cache in [`vm::CAPABILITIES`] below `dir`, which is made. `emulated`: as it is in a container that has
/// no `/dev/kvm`.
pub fn run(dir: &Path, emulated: bool) -> Result<u8> {
    // QEMU detaches itself, and libvirt waits for it to be gone: an engine's monitor does not reap it.
    prctl::set_child_subreaper(true).context("subreaper")?;
    reaper::start()?;
    vm::prepare_root(dir, None)?;
    look_like_a_container(dir, emulated)?;
    let connection = vm::connect(dir)?;
    let kind = if emulated { "qemu" } else { "kvm" };
    connection
        .domain_capabilities(None, Some("x86_64"), Some("q35"), Some(kind), 0)
        .map_err(|e| Error::new("libvirt", e.message().trim()))?;
    Ok(0)
}

/// For this process alone: the users of a container of ours, and no KVM where there is none.
fn look_like_a_container(dir: &Path, emulated: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).context("/")?;
    for (name, content) in [("passwd", PASSWD), ("group", GROUP)] {
        let ours = dir.join(name);
        fs::write(&ours, content).context(ours.display())?;
        cover(Path::new("/etc").join(name).as_path(), &ours)?;
    }
    if emulated && Path::new(KVM).exists() {
        // libvirt asks whether the device can be written: a file on a read-only mount cannot, whoever asks.
        cover(Path::new(KVM), &dir.join("passwd"))?;
    }
    Ok(())
}

const NONE: Option<&str> = None;

/// Mounts `file` over `path`, read-only.
fn cover(path: &Path, file: &Path) -> Result<()> {
    mount(Some(file), path, NONE, MsFlags::MS_BIND, NONE).context(path.display())?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NONE, path, NONE, flags, NONE).context(path.display())
}
