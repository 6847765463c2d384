//! Signals as readable events.

use std::os::fd::{AsFd, BorrowedFd};

use crun_qemu::error::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The power button: the engine's stop signal, whichever it was set to.
    PowerOff,
    /// Nothing: a terminal's business that ends processes that do not expect it.
    Nothing,
}

/// The signals that are taken as events; every thread that starts later has them blocked too.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them and opens the descriptor.
    pub fn take() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR, Signal::SIGHUP, Signal::SIGWINCH] {
            set.add(signal);
        }
        // nix knows no real-time signals.
        let mut raw = *set.as_ref();
        // SAFETY: `raw` is an initialised set and the signal is one of the kernel's.
        let set = unsafe {
            libc::sigaddset(&mut raw, shutdown_signal());
            SigSet::from_sigset_t_unchecked(raw)
        };
        set.thread_block().context("signals")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self).context("signals")
    }

    /// The next one that is pending.
    pub fn next(&self) -> Option<Asked> {
        let info = self.0.read_signal().ok().flatten()?;
        let number = info.ssi_signo as libc::c_int;
        Some(match Signal::try_from(number) {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGPWR) => Asked::PowerOff,
            Err(_) if number == shutdown_signal() => Asked::PowerOff,
            _ => Asked::Nothing,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// SIGRTMIN+3: images whose init is systemd name it as their stop signal.
fn shutdown_signal() -> libc::c_int {
    libc::SIGRTMIN() + 3
}
