//! The container's standard streams: raw mode while the VM uses them, and our messages.

use std::fmt;
use std::io::{stderr, stdin, stdout};
use std::os::fd::AsFd;

use crun_qemu::error::{Context, Result, line};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::write;

/// Longest wait in ms for room on stderr, so that an unread stderr cannot stall the VM.
const SAY_TIMEOUT: u16 = 1000;

/// Raw mode on a terminal, and a standard output that never blocks; undone when dropped.
pub struct Terminal {
    cooked: Option<Termios>,
    stdout_flags: OFlag,
}

impl Terminal {
    /// Takes over stdin, if it is a terminal, and stdout.
    pub fn take_over() -> Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(stdout(), FcntlArg::F_GETFL).context("standard output")?);
        let mut this = Self { cooked: None, stdout_flags: flags };
        fcntl(stdout(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context("standard output")?;
        if let Ok(cooked) = tcgetattr(stdin()) {
            let mut raw = cooked.clone();
            cfmakeraw(&mut raw);
            tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("the terminal")?;
            this.cooked = Some(cooked);
        }
        Ok(this)
    }

    /// Whether stdin is a terminal.
    pub fn is_tty(&self) -> bool {
        self.cooked.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both calls may fail on a terminal that is gone, and there is nothing left to restore then.
        if let Some(cooked) = &self.cooked {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, cooked);
        }
        let _ = fcntl(stdout(), FcntlArg::F_SETFL(self.stdout_flags));
    }
}

/// Writes a message to stderr as one line, on a raw or a cooked terminal, and even if stderr does not block.
pub fn say(message: impl fmt::Display) {
    let raw = tcgetattr(stderr()).is_ok_and(|t| !t.output_flags.contains(OutputFlags::OPOST));
    let text = format!("{}{}", line(message), if raw { "\r\n" } else { "\n" });
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match write(stderr(), rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let err = stderr();
                let mut fds = [PollFd::new(err.as_fd(), PollFlags::POLLOUT)];
                if !matches!(poll(&mut fds, PollTimeout::from(SAY_TIMEOUT)), Ok(1..)) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
