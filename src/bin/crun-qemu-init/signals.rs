//! Signals as a file descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use crun_qemu::error::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Press the VM's power button.
    PowerButton,
    /// Look after children.
    Reap,
    /// Nothing.
    Nothing,
}

/// All signals that can be blocked, blocked and read from a descriptor.
pub struct Signals(SignalFd);

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
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signals")?))
    }

    /// The next pending signal.
    pub fn next(&self) -> Result<Option<Ask>> {
        Ok(self.0.read_signal().context("signals")?.map(|info| ask(info.ssi_signo as i32)))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SIGRTMIN+3` is what engines send to an init of systemd's kind, `SIGPWR` to one of LXC's.
fn ask(signal: i32) -> Ask {
    match signal {
        libc::SIGTERM | libc::SIGINT | libc::SIGPWR => Ask::PowerButton,
        rt if rt == libc::SIGRTMIN() + 3 => Ask::PowerButton,
        libc::SIGCHLD => Ask::Reap,
        _ => Ask::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signals_ask() {
        for (signal, want) in [
            (libc::SIGTERM, Ask::PowerButton),
            (libc::SIGINT, Ask::PowerButton),
            (libc::SIGPWR, Ask::PowerButton),
            (libc::SIGRTMIN() + 3, Ask::PowerButton),
            (libc::SIGRTMIN() + 4, Ask::Nothing),
            (libc::SIGHUP, Ask::Nothing),
            (libc::SIGWINCH, Ask::Nothing),
            (libc::SIGCHLD, Ask::Reap),
        ] {
            assert_eq!(ask(signal), want, "{signal}");
        }
    }
}
