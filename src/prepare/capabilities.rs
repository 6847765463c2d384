//! The host's cache of what its QEMU can do: libvirt asks QEMU for a second or more, once per host.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::utsname::uname;
use nix::unistd::Uid;

use crate::host::Host;
use crate::paths;
use crate::plan::Accelerator;
use crate::policy::home;

/// The directory to hand into the container, filled first where that is due. `None` where the host has no room for it
/// or QEMU cannot be asked: the container then asks for itself, which is slower and no failure.
pub fn cached(host: &Host, accelerator: Accelerator) -> Option<PathBuf> {
    let base = base()?;
    let done = base.join(key(host, accelerator)?);
    if done.is_dir() {
        return Some(done);
    }
    DirBuilder::new().mode(0o755).recursive(true).create(&base).ok()?;
    // Several containers may start at once: each fills a directory of its own and the first rename stays.
    let scratch = base.join(format!(".{}", std::process::id()));
    let filled = probe(host, accelerator, &scratch);
    if let Some(filled) = filled {
        let _ = fs::rename(filled, &done);
    }
    let _ = fs::remove_dir_all(&scratch);
    done.is_dir().then_some(done)
}

fn base() -> Option<PathBuf> {
    // In a rootless engine's user namespace the effective user is root and the file's owner decides.
    let system = Path::new("/var/cache");
    let user = Uid::effective();
    if user.is_root()
        && fs::metadata("/").ok()?.uid() == 0
        && nix::unistd::access(system, nix::unistd::AccessFlags::W_OK).is_ok()
    {
        return Some(system.join("crun-qemu"));
    }
    Some(home()?.join(".cache/crun-qemu"))
}

/// What libvirt itself looks at before it believes its cache, so that an upgrade leads to a new directory.
fn key(host: &Host, accelerator: Accelerator) -> Option<String> {
    let mut hasher = DefaultHasher::new();
    for file in [Path::new(&host.emulator), &host.init] {
        let metadata = fs::metadata(file).ok()?;
        (file, metadata.mtime(), metadata.ctime(), metadata.len()).hash(&mut hasher);
    }
    let kernel = uname().ok()?;
    (kernel.release(), kernel.version()).hash(&mut hasher);
    Some(format!(
        "capabilities-{}-{:016x}",
        if accelerator == Accelerator::Kvm { "kvm" } else { "tcg" },
        hasher.finish()
    ))
}

fn probe(host: &Host, accelerator: Accelerator, scratch: &Path) -> Option<PathBuf> {
    let status = Command::new(&host.init)
        .arg("probe")
        .arg(scratch)
        .args((accelerator == Accelerator::Tcg).then_some("--emulated"))
        .env_clear()
        // libvirt files what it learns under the emulator's path, which it finds by $PATH: as in the container.
        .envs(paths::ENVIRONMENT.iter().filter_map(|variable| variable.split_once('=')))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let filled = scratch.join("cache/qemu/capabilities");
    (status.success() && filled.is_dir()).then_some(filled)
}
