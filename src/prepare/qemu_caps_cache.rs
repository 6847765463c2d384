//! The host's cache of what its QEMU can do: libvirt asks QEMU for a second or more, once per host.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::utsname::uname;

use super::private_dir::PrivateDir;
use crate::error::{self, Context, Result};
use crate::host::{Answer, DRIVER, Host, ask, cache_directory};
use crate::plan::Accelerator;

/// Age at which an unused entry is removed: there is no event for the removal of a QEMU version.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A QEMU that could not be asked is asked again after this time, or when it or the kernel is another.
const FAILED: Duration = Duration::from_secs(60 * 60);
/// A container that starts waits no longer. Asking takes a few seconds, on a busy host some more.
const PATIENCE: Duration = Duration::from_secs(30);
/// Beginning of the names of what is ours: others keep things in the same place.
const PREFIX: &str = "capabilities-";
/// End of the name of a file that says why QEMU could not be asked.
const REASON: &str = ".failed";

/// The directory for the container, filled first if necessary. `None` if the host has no room for it or QEMU cannot be
/// probed: libvirt then probes in the container, which is slower but not a failure. `labelled`: SELinux keeps
/// containers from the host's directory, so a copy is made in `dir`.
pub fn for_container(host: &Host, accelerator: Accelerator, dir: &PrivateDir, labelled: bool) -> Option<PathBuf> {
    let filled = Cache::of(host, accelerator)?.filled(|scratch| probe(host, accelerator, scratch, PATIENCE))?;
    if labelled { copy(&filled, dir).ok() } else { Some(filled) }
}

/// Why QEMU could not be asked, if it was so.
pub fn failure(host: &Host, accelerator: Accelerator) -> Option<String> {
    Cache::of(host, accelerator)?.failure()
}

/// Name of the copy in the private directory.
const COPY: &str = "capabilities";

fn copy(from: &Path, dir: &PrivateDir) -> Result<PathBuf> {
    dir.make_dir(COPY)?;
    for entry in fs::read_dir(from).context(from.display())? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).context(from.display())?;
        let content = fs::read(&path).context(path.display())?;
        dir.write(&format!("{COPY}/{}", name.to_string_lossy()), 0o644, &content)?;
    }
    Ok(dir.join(COPY))
}

/// The cache for one QEMU on one kernel.
struct Cache {
    base: PathBuf,
    key: String,
}

impl Cache {
    fn of(host: &Host, accelerator: Accelerator) -> Option<Self> {
        Some(Self { base: cache_directory()?, key: key(host, accelerator)? })
    }

    /// The directory, filled by `probe` where it is not: that is given a place to work in, and returns the full one or
    /// why there is none.
    fn filled(&self, probe: impl FnOnce(&Path) -> std::result::Result<PathBuf, String>) -> Option<PathBuf> {
        if let Some(done) = self.used() {
            return Some(done);
        }
        if self.failure().is_some() {
            return None;
        }
        DirBuilder::new().mode(0o755).recursive(true).create(&self.base).ok()?;
        // Several containers may start at once: each fills its own directory, and the first rename wins.
        let scratch = self.base.join(format!("{PREFIX}new-{}", std::process::id()));
        match probe(&scratch).and_then(|filled| for_everybody(&filled).map(|()| filled).map_err(|e| e.to_string())) {
            Ok(filled) => drop(fs::rename(filled, self.base.join(&self.key))),
            Err(why) => drop(fs::write(self.reason(), why)),
        }
        let _ = fs::remove_dir_all(&scratch);
        remove_unused(&self.base, SystemTime::now() - KEPT);
        self.used()
    }

    /// The directory if it exists, marked as used so that it is not removed.
    fn used(&self) -> Option<PathBuf> {
        let _locked = locked(&self.base, FlockArg::LockShared)?;
        let done = self.base.join(&self.key);
        let dir = File::open(&done).ok().filter(|dir| dir.metadata().is_ok_and(|m| m.is_dir()))?;
        let _ = dir.set_modified(SystemTime::now());
        Some(done)
    }

    fn reason(&self) -> PathBuf {
        self.base.join(format!("{}{REASON}", self.key))
    }

    fn failure(&self) -> Option<String> {
        let path = self.reason();
        let since = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?.modified().ok()?;
        // A time to come is a clock that was wrong.
        let recent = SystemTime::now().duration_since(since).is_ok_and(|age| age < FAILED);
        recent.then(|| fs::read_to_string(path).ok()).flatten()
    }
}

/// Lock on the cache: with a shared lock nothing in it is removed, with an exclusive lock nothing in it is used.
fn locked(base: &Path, how: FlockArg) -> Option<Flock<File>> {
    Flock::lock(File::open(base).ok()?, how).ok()
}

/// libvirt makes its cache readable for root only, and root in a container may be another host user.
fn for_everybody(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755))?;
    fs::read_dir(dir)?.try_for_each(|entry| fs::set_permissions(entry?.path(), PermissionsExt::from_mode(0o644)))
}

/// Removes entries for other versions of QEMU or of this project, and the remains of starts that were killed. An entry
/// that cannot be removed does not stop the others. Running containers have their own copy.
fn remove_unused(base: &Path, since: SystemTime) {
    let Some(_locked) = locked(base, FlockArg::LockExclusiveNonblock) else { return };
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Some(metadata) = entry.metadata().ok().filter(|_| ours) else { continue };
        if metadata.modified().is_ok_and(|time| time < since) {
            let path = entry.path();
            let _ = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

/// The facts that libvirt checks before it trusts its cache; an upgrade therefore leads to a new directory.
fn key(host: &Host, accelerator: Accelerator) -> Option<String> {
    let mut hasher = DefaultHasher::new();
    let driver = DRIVER.find().ok().map(Path::new);
    for file in [Path::new(&host.emulator), &host.init].into_iter().chain(driver) {
        let metadata = fs::metadata(file).ok()?;
        (file, metadata.mtime(), metadata.ctime(), metadata.len()).hash(&mut hasher);
    }
    let kernel = uname().ok()?;
    (kernel.release(), kernel.version()).hash(&mut hasher);
    microcode().hash(&mut hasher);
    let accelerator = if accelerator == Accelerator::Kvm { "kvm" } else { "tcg" };
    Some(format!("{PREFIX}{accelerator}-{:016x}", hasher.finish()))
}

/// The first CPU's; the kernel takes its time over the rest of the file.
fn microcode() -> Option<String> {
    let mut text = String::new();
    File::open("/proc/cpuinfo").ok()?.take(4 << 10).read_to_string(&mut text).ok()?;
    text.lines().find(|line| line.starts_with("microcode")).map(str::to_string)
}

fn probe(
    host: &Host,
    accelerator: Accelerator,
    scratch: &Path,
    patience: Duration,
) -> std::result::Result<PathBuf, String> {
    let emulated = (accelerator == Accelerator::Tcg).then_some(OsStr::new("--emulated"));
    let words: Vec<_> = [OsStr::new("probe"), scratch.as_os_str()].into_iter().chain(emulated).collect();
    let answer = ask(&host.init, &words, patience);
    let filled = scratch.join("cache/qemu/capabilities");
    match answer {
        Answer::Done(0, _) if filled.is_dir() => Ok(filled),
        Answer::Done(0, _) => Err("libvirt has learnt nothing".into()),
        Answer::Done(_, why) => Err(error::of_line(&why).to_string()),
        Answer::Killed => Err("it was killed".into()),
        Answer::Late => Err(format!("no answer in {} seconds", patience.as_secs())),
        Answer::Unasked => Err(format!("{} cannot be run", host.init.display())),
    }
}

#[cfg(test)]
mod tests;
