//! Signals as a file descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use crun_qemu::error::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The supervisor's reaction to a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Shut the VM down.
    Stop,
    /// Look after children.
    Reap,
    /// Nothing.
    Nothing,
}

/// All signals that can be blocked, blocked and read from a descriptor.
pub struct Signals {
    signals: SignalFd,
    /// The stop signal in the container's configuration.
    stop: Option<i32>,
}

impl Signals {
    /// Must be called before the first thread is started: threads inherit the mask. Signals are blocked rather than
    /// ignored, as blocked ones reach even PID 1, whose default is to drop them.
    pub fn block() -> Result<Self> {
        let mut set = SigSet::all();
        // A fault in our own code has to end us with its signal.
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGSYS,
        ] {
            set.remove(fault);
        }
        set.thread_block().context("signals")?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signals")?;
        Ok(Self { signals, stop: None })
    }

    /// Takes this one, too, for a wish that the VM shuts down.
    pub fn stop_at(&mut self, signal: Option<i32>) {
        self.stop = signal;
    }

    /// The next pending signal.
    pub fn next(&self) -> Result<Option<Ask>> {
        let info = self.signals.read_signal().context("signals")?;
        Ok(info.map(|info| ask(info.ssi_signo as i32, info.ssi_code <= 0, self.stop)))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// The reaction to a signal: to stop for every signal that ends programs in general, that engines send to an init
/// (`SIGRTMIN+3` to systemd and the like, `SIGPWR` to LXC's), or that the container's configuration names (`stop`). The
/// latter counts only if a process sent it: the kernel itself sends signals about windows and children, and an image
/// may have chosen such a one.
fn ask(signal: i32, sent: bool, stop: Option<i32>) -> Ask {
    match signal {
        own if sent && Some(own) == stop => Ask::Stop,
        libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP | libc::SIGPWR => Ask::Stop,
        rt if rt == libc::SIGRTMIN() + 3 => Ask::Stop,
        libc::SIGCHLD => Ask::Reap,
        _ => Ask::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signals_ask() {
        for (signal, sent, stop, want) in [
            (libc::SIGTERM, true, None, Ask::Stop),
            (libc::SIGTERM, true, Some(libc::SIGUSR1), Ask::Stop),
            (libc::SIGINT, true, None, Ask::Stop),
            (libc::SIGQUIT, true, None, Ask::Stop),
            (libc::SIGHUP, false, None, Ask::Stop),
            (libc::SIGPWR, true, None, Ask::Stop),
            (libc::SIGRTMIN() + 3, true, None, Ask::Stop),
            (libc::SIGRTMIN() + 4, true, None, Ask::Nothing),
            (libc::SIGUSR1, true, None, Ask::Nothing),
            (libc::SIGUSR1, true, Some(libc::SIGUSR1), Ask::Stop),
            (libc::SIGWINCH, true, None, Ask::Nothing),
            (libc::SIGWINCH, true, Some(libc::SIGWINCH), Ask::Stop),
            (libc::SIGWINCH, false, Some(libc::SIGWINCH), Ask::Nothing),
            (libc::SIGCHLD, false, Some(libc::SIGCHLD), Ask::Reap),
        ] {
            assert_eq!(ask(signal, sent, stop), want, "{signal} {sent} {stop:?}");
        }
    }
}
