//! The host's cache of what its QEMU can do: libvirt asks QEMU for a second or more, once per host.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::utsname::uname;
use nix::unistd::Uid;

use crate::host::Host;
use crate::paths;
use crate::plan::Accelerator;
use crate::policy::home;

/// After this time what was learnt is learnt anew: nobody tells when the last QEMU of a version is gone.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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
    if let Some(filled) = filled.filter(|filled| for_everybody(filled).is_ok()) {
        let _ = fs::rename(filled, &done);
    }
    let _ = fs::remove_dir_all(&scratch);
    let _ = remove_older(&base, SystemTime::now() - KEPT);
    done.is_dir().then_some(done)
}

/// libvirt lets root alone read its cache, and root in a container may be another user of the host's.
fn for_everybody(dir: &Path) -> io::Result<()> {
    fs::read_dir(dir)?.try_for_each(|entry| fs::set_permissions(entry?.path(), PermissionsExt::from_mode(0o644)))
}

/// Of other versions of QEMU or of ours. A container that runs has the directory mounted and keeps it.
fn remove_older(base: &Path, than: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.metadata()?.modified()? < than {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_goes() {
        let base = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            let dir = base.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("x.xml"), "x").unwrap();
            dir
        };
        let (old, new) = (dir("old"), dir("new"));
        let time = SystemTime::now() - KEPT - Duration::from_secs(60);
        fs::File::open(&old).unwrap().set_modified(time).unwrap();
        remove_older(base.path(), SystemTime::now() - KEPT).unwrap();
        assert!(!old.exists() && new.join("x.xml").exists());
        for_everybody(&new).unwrap();
        assert_eq!(fs::metadata(new.join("x.xml")).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
