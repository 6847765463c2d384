//! Ends the command in the guest when the exec is killed, which the exec itself may not notice (SIGKILL): a process
//! beside it sees its end through a pipe. Without a terminal, sshd lets a command run on when its client disappears.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, alarm, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::command;
use super::control_master::Guest;
use crun_qemu::error::{Context, Result};

/// Longest that the watcher may take for its work, in seconds.
const ENDING: u32 = 30;
const STARTED: u8 = b's';
const DONE: u8 = b'd';

/// The watcher's other end.
pub struct Guard {
    pipe: std::io::PipeWriter,
    child: Pid,
}

impl Guard {
    /// Starts the guard. The process must have no other threads.
    ///
    /// # Errors
    /// When there is no room for another process.
    pub fn start(guest: &Guest, token: &str) -> Result<Self> {
        let (mut reader, pipe) = std::io::pipe().context("exec")?;
        // SAFETY: there is one thread, so the child finds every lock free; it ends below without returning.
        match unsafe { fork() }.context("exec")? {
            ForkResult::Parent { child } => Ok(Self { pipe, child }),
            ForkResult::Child => {
                drop(pipe);
                let _ = watch(&mut reader, guest, token);
                // SAFETY: always; nothing of the parent's is flushed or torn down.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// From now on there is a command to end.
    pub fn started(&mut self) {
        let _ = self.pipe.write_all(&[STARTED]);
    }

    /// The command has ended by itself.
    pub fn done(mut self) {
        let _ = self.pipe.write_all(&[DONE]);
        drop(self.pipe);
        let _ = waitpid(self.child, None);
    }
}

fn watch(reader: &mut impl Read, guest: &Guest, token: &str) -> Result<()> {
    setsid().context("setsid")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("/dev/null")?;
    dup2_stdin(&null).and(dup2_stdout(&null)).and(dup2_stderr(&null)).context("dup2")?;
    let mut told = Vec::new();
    reader.read_to_end(&mut told).context("pipe")?;
    if told == [STARTED] {
        alarm::set(ENDING);
        // The exec's own time for getting in may long be over.
        let since = Instant::now();
        let guest = Guest { since, deadline: since + Duration::from_secs(ENDING.into()), ..guest.clone() };
        let mut session = guest.open(&command::kill(token), None, [null.as_fd(); 3])?;
        session.next();
    }
    Ok(())
}
