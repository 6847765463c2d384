//! Fills a cache of what the host's QEMU can do.

use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use virt::sys;

use crate::vm;

/// Leaves the cache in [`vm::CAPABILITIES`] below `dir`, which is made. `emulated`: as it is in a container that has
/// no `/dev/kvm`.
pub fn run(dir: &Path, emulated: bool) -> Result<u8> {
    if emulated && Path::new(KVM).exists() {
        hide_kvm()?;
    }
    vm::prepare_root(dir, None)?;
    let connection = vm::connect(dir)?;
    let kind = if emulated { "qemu" } else { "kvm" };
    connection
        .domain_capabilities(None, Some("x86_64"), Some("q35"), Some(kind), sys::virConnectGetDomainCapabilitiesFlags::default())
        .map_err(|e| Error::new("libvirt", e.message().trim()))?;
    Ok(0)
}

const KVM: &str = "/dev/kvm";

/// libvirt asks whether the device can be written. A file that is mounted read-only cannot, whoever asks.
fn hide_kvm() -> Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).context("/")?;
    let file = std::env::current_exe().context("/proc/self/exe")?;
    mount(Some(&file), KVM, nothing, MsFlags::MS_BIND, nothing).context(KVM)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(nothing, KVM, nothing, flags, nothing).context(KVM)
}
