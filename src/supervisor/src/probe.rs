//! Probe of the host's QEMU, done once so that containers need not do it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use crun_qemu::host::is_real_root;
use crun_qemu::prepare::skeleton::{GROUP, PASSWD};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::geteuid;

use crate::reaper::Reaper;
use crate::signals::Signals;
use crate::{embedded, privileges};

const KVM: &str = "/dev/kvm";
/// Interval of checks whether libvirt has finished, ms: there is no event for it.
const LOOK: u8 = 20;

/// Fills `DIR/cache/qemu/capabilities` for the default emulator of this architecture. `emulated`: as it is in a
/// container that has no `/dev/kvm`. The caller is [confined](crate::confine::run).
///
/// # Errors
/// When QEMU, or libvirt's driver for it, is missing or does not work.
pub fn run(dir: &Path, emulated: bool) -> Result<()> {
    fs::create_dir_all(dir).context(dir.display())?;
    let dir = dir.canonicalize().context(dir.display())?;
    let signals = Signals::block()?;
    embedded::quiet(&dir);
    embedded::prepare(&dir, None, &SupervisorConfig::default())?;
    // Root in a user namespace has no host privileges to drop.
    let real_root = geteuid().is_root() && is_real_root();
    look_like_a_container(&dir, emulated, real_root)?;
    if real_root {
        qemu_is_nobody(&dir)?;
    }
    let asking = thread::Builder::new().spawn(move || embedded::learn_capabilities(&embedded::connect(&dir)?));
    let asking = asking.context("thread")?;
    reap_until(&signals, || asking.is_finished())?;
    asking.join().unwrap_or_else(|_| Err(Error::new("libvirt", "the thread that asks it is gone")))
}

/// Makes QEMU run as a user that owns nothing, and libvirt keep only the capabilities it needs for that.
fn qemu_is_nobody(dir: &Path) -> Result<()> {
    let conf = dir.join("etc/qemu.conf");
    let text = fs::read_to_string(&conf).context(conf.display())?;
    let others = text.lines().filter(|line| !line.starts_with("user ") && !line.starts_with("group "));
    let lines: Vec<_> = NOBODY.iter().copied().chain(others).collect();
    fs::write(&conf, lines.join("\n") + "\n").context(conf.display())?;
    fs::set_permissions(dir, PermissionsExt::from_mode(0o711)).context(dir.display())?;
    privileges::keep(TO_START_QEMU)
}

/// Numbers instead of names: every Linux reserves these.
const NOBODY: &[&str] = &["user = \"+65534\"", "group = \"+65534\""];
/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, `CAP_SETPCAP`, bit numbers
/// from `linux/capability.h`.
const TO_START_QEMU: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;

/// Reaps QEMU, which detaches itself while it is probed; libvirt waits for its end, and this first process of the
/// namespace inherits it.
fn reap_until(signals: &Signals, over: impl Fn() -> bool) -> Result<()> {
    let mut reaper = Reaper::default();
    while !over() {
        reaper.sweep();
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], LOOK);
        while signals.next()?.is_some() {}
    }
    Ok(())
}

/// Gives this process the view from inside a container: our users, no other processes, and no KVM if there is none.
fn look_like_a_container(dir: &Path, emulated: bool, real_root: bool) -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).context("/")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // A user namespace may forbid it; the old view then stays.
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags | MsFlags::MS_NODEV, NONE);
    // libvirt keeps something below it whatever its root is, where a user other than root may not.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, NONE).context("/run")?;
    for (name, content) in [("passwd", PASSWD), ("group", GROUP)] {
        let ours = dir.join(name);
        fs::write(&ours, content).context(ours.display())?;
        cover(Path::new("/etc").join(name).as_path(), &ours)?;
    }
    if !Path::new(KVM).exists() {
        return Ok(());
    }
    if emulated {
        // libvirt checks whether the device is writable, and a file on a read-only mount is not.
        return cover(Path::new(KVM), &dir.join("passwd"));
    }
    if real_root { kvm_for_nobody() } else { Ok(()) }
}

/// Replaces the host's device node, whose mode is not ours to change, by a node of our own.
fn kvm_for_nobody() -> Result<()> {
    let ours = Path::new("/run/kvm");
    let device = fs::metadata(KVM).context(KVM)?.rdev();
    mknod(ours, SFlag::S_IFCHR, Mode::empty(), device).context(KVM)?;
    fs::set_permissions(ours, PermissionsExt::from_mode(0o666)).context(KVM)?;
    mount(Some(ours), KVM, NONE, MsFlags::MS_BIND, NONE).context(KVM)
}

const NONE: Option<&str> = None;

/// Mounts `file` over `path`, read-only.
fn cover(path: &Path, file: &Path) -> Result<()> {
    mount(Some(file), path, NONE, MsFlags::MS_BIND, NONE).context(path.display())?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NONE, path, NONE, flags, NONE).context(path.display())
}
