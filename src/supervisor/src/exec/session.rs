//! One command in the guest, on the exec's side: terminal, window size, status.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::command::Job;
use super::control_master::Guest;
use super::mux::Event;
use super::orphan_guard::Guard;
use crate::terminal::say;
use crun_qemu::error::{Context, Error, Result};

/// RFC 4253: every sshd takes packets of this many bytes.
const PACKET: usize = 32_768;

/// Runs the job to its end and returns its status. With a terminal as stdin the job gets one in the guest. `begun` is
/// called when the guest has taken the job.
///
/// # Errors
/// When the guest could not be entered, or the connection was lost.
pub fn run(guest: &Guest, job: &Job, term: Option<Vec<u8>>, mut guard: Guard, begun: impl FnOnce()) -> Result<i32> {
    let command = job.command()?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let term = stdin.is_terminal().then(|| term.unwrap_or_else(|| b"xterm".into()));
    guard.started();
    let mut session = match guest.open(&command, term.as_deref(), [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
        Ok(session) => session,
        Err(e) => {
            guard.done();
            return Err(e);
        }
    };
    begun();
    // Not earlier: a master started by then would have inherited the blocked signal, and it needs the signal.
    let changes = window_changes()?;
    let _raw = term.is_some().then(|| Raw::new(stdin.as_fd()));
    if term.is_some() {
        // The size may have changed since the master looked at it.
        let _ = kill(session.master, Signal::SIGWINCH);
    }
    loop {
        let mut fds =
            [PollFd::new(session.as_fd(), PollFlags::POLLIN), PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            polled => polled.context("exec")?,
        };
        let ready = fds[0].any().unwrap_or(true);
        if let Ok(Some(_)) = changes.read_signal() {
            let _ = kill(session.master, Signal::SIGWINCH);
        }
        if !ready {
            continue;
        }
        match session.next() {
            Event::NoTerminal => say(Error::new("exec", "the guest gave no terminal")),
            Event::Ended(Some(status)) => {
                guard.done();
                return Ok(status as i32);
            }
            Event::Ended(None) => {
                return Err(lost(command.len()));
            }
        }
    }
}

/// `length` is the command's: dropbear hangs up if it is longer than a packet.
fn lost(length: usize) -> Error {
    let error = Error::new("exec", "the connection to the guest was lost");
    if length < PACKET {
        return error;
    }
    error.hint(format!("not every sshd takes a command of {length} bytes: pass the data on stdin"))
}

/// Runs `start`, whose threads never receive the signals that [`window_changes`] waits for: a thread that did would
/// lose them. Programs that this thread executes later do receive them.
///
/// # Errors
/// When signals cannot be blocked.
pub fn block_sigwinch<T>(start: impl FnOnce() -> T) -> Result<T> {
    let signals = SigSet::from(Signal::SIGWINCH);
    signals.thread_block().context("exec")?;
    let started = start();
    signals.thread_unblock().context("exec")?;
    Ok(started)
}

/// Signals of this kind come by a descriptor from now on.
fn window_changes() -> Result<SignalFd> {
    let signals = SigSet::from(Signal::SIGWINCH);
    signals.thread_block().context("exec")?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("exec")
}

/// The terminal passes every byte on, ctrl-c included: the guest's terminal acts on them.
struct Raw<'a> {
    fd: BorrowedFd<'a>,
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    fn new(fd: BorrowedFd<'a>) -> Self {
        let before = tcgetattr(fd).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(fd, SetArg::TCSADRAIN, &raw);
        }
        Self { fd, before }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(self.fd, SetArg::TCSADRAIN, before);
        }
    }
}
