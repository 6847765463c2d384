//! What the host's QEMU can do, found out once, so that no container has to.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

use crun_qemu::error::{Context, Result};
use crun_qemu::launch::Launch;
use crun_qemu::prepare::skeleton::{GROUP, PASSWD};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

use crate::embedded;
use crate::reaper::Reaper;
use crate::signals::Signals;

const KVM: &str = "/dev/kvm";

/// Fills `DIR/cache/qemu/capabilities` for the default emulator of this architecture. `emulated`: as it is in a
/// container that has no `/dev/kvm`.
///
/// # Errors
/// When QEMU, or libvirt's driver for it, is missing or does not work.
pub fn run(dir: &Path, emulated: bool) -> Result<()> {
    fs::create_dir_all(dir).context(dir.display())?;
    let dir = dir.canonicalize().context(dir.display())?;
    let signals = Signals::block()?;
    embedded::quiet(&dir);
    embedded::prepare(&dir, None, &Launch::default())?;
    look_like_a_container(&dir, emulated)?;
    reap(signals)?;
    let connection = embedded::connect(&dir)?;
    embedded::learn_capabilities(&connection)
}

/// QEMU detaches itself when it is asked, and libvirt waits for it to be gone: whoever inherits it else may be slow.
fn reap(signals: Signals) -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("subreaper")?;
    let mut reaper = Reaper::default();
    let body = move || {
        loop {
            reaper.sweep(Instant::now());
            let due = reaper.deadline().map(|due| due.saturating_duration_since(Instant::now()).as_millis() as u16 + 1);
            let timeout = due.map_or(PollTimeout::NONE, PollTimeout::from);
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout);
            while let Ok(Some(_)) = signals.next() {}
        }
    };
    thread::Builder::new().spawn(body).context("thread").map(drop)
}

/// For this process alone: the users of a container of ours, and no KVM where there is none.
fn look_like_a_container(dir: &Path, emulated: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).context("/")?;
    // libvirt keeps something below it whatever its root is, where a user other than root may not.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, NONE).context("/run")?;
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
