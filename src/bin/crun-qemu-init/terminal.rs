//! The container's standard streams, put back on every way out as they were found.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Raw mode, and reads and writes that do not block, until dropped.
pub struct Terminal {
    termios: Option<Termios>,
    flags: Vec<OFlag>,
}

impl Terminal {
    /// Takes the standard streams over. Without a terminal there is no mode to change.
    pub fn take_over() -> Self {
        let stdin = std::io::stdin();
        let termios = tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
        if let Some(termios) = &termios {
            let mut raw = termios.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &raw);
        }
        let flags = [stdin.as_fd(), std::io::stdout().as_fd()].map(|fd| {
            let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap_or_default());
            let _ = fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
            flags
        });
        Self { termios, flags: flags.to_vec() }
    }

    /// Whether somebody can type on it.
    pub fn is_interactive(&self) -> bool {
        self.termios.is_some()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        for (fd, flags) in [stdin.as_fd(), stdout.as_fd()].into_iter().zip(&self.flags) {
            let _ = fcntl(fd, FcntlArg::F_SETFL(*flags));
        }
        if let Some(termios) = &self.termios {
            let _ = tcsetattr(&stdin, SetArg::TCSADRAIN, termios);
        }
    }
}
