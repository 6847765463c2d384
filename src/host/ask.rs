//! Questions that only other programs can answer: each is killed when it takes too long.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, PipeReader, Read, pipe};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::handoff::paths;

/// No reason is longer, bytes.
const LONGEST: usize = 4 << 10;

/// Result of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Exit status, and trimmed output.
    Done(i32, String),
    /// The program was killed, perhaps by a limit of its own.
    Killed,
    /// The program took too long and was killed.
    Late,
    /// The program could not be run.
    Unasked,
}

/// Runs `program` with these words for as long as `patience` has it.
pub fn ask(program: &Path, words: &[&OsStr], patience: Duration) -> Answer {
    let deadline = Instant::now() + patience;
    start(program, words).map_or(Answer::Unasked, |(child, said)| attend(child, said, deadline))
}

fn start(program: &Path, words: &[&OsStr]) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // libvirt files its findings under the emulator's path, which it finds by $PATH: as in the container.
    let environment = paths::ENVIRONMENT.iter().filter_map(|variable| variable.split_once('='));
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(environment).current_dir("/");
    let child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    Ok((child, reader))
}

/// Waits for the child's end or kills it.
fn attend(mut child: Child, mut reader: PipeReader, deadline: Instant) -> Answer {
    let Some(watch) = watch(&child) else {
        end(&mut child);
        return Answer::Unasked;
    };
    let (mut said, mut open) = (Vec::new(), true);
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        fds.extend(open.then(|| PollFd::new(reader.as_fd(), PollFlags::POLLIN)));
        // A signal does not end the wait.
        let _ = poll(&mut fds, PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX));
        let ended = fds[0].any().unwrap_or(true);
        open = open && read_some(&mut reader, &mut said);
        if ended || left.is_zero() {
            break ended;
        }
    };
    if !ended {
        end(&mut child);
        return Answer::Late;
    }
    match child.wait().ok().and_then(|status| status.code()) {
        Some(status) => Answer::Done(status, String::from_utf8_lossy(&said).trim().to_string()),
        None => Answer::Killed,
    }
}

/// Kills the program; the processes that it started die with it, as the supervisor arranges.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A descriptor that can be read when the child has ended.
pub fn watch(child: &Child) -> Option<OwnedFd> {
    // SAFETY: the process is a child that has not been waited for, so that its id is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    // SAFETY: a new descriptor that nobody else has.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Takes what there is; returns whether more may come.
fn read_some(reader: &mut PipeReader, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => said.extend(&buffer[..n.min(LONGEST - said.len())]),
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: u64) -> Answer {
        let words = ["-c", script].map(OsStr::new);
        ask(Path::new("/bin/sh"), &words, Duration::from_millis(patience))
    }

    #[test]
    fn answers() {
        assert_eq!(shell("echo why >&2; exit 3", 60_000), Answer::Done(3, "why".into()));
        assert_eq!(shell("exit 0", 60_000), Answer::Done(0, String::new()));
        assert_eq!(shell("kill -9 $$", 60_000), Answer::Killed);
        assert_eq!(ask(Path::new("/nowhere"), &[], Duration::from_secs(1)), Answer::Unasked);
        // More than a pipe holds, and more than is kept.
        let Answer::Done(0, said) = shell("head -c 200000 /dev/zero | tr '\\0' x >&2", 60_000) else { panic!() };
        assert_eq!(said.len(), LONGEST);
    }

    /// A program that hangs is not waited for, nor a child that holds the other end of its pipe.
    #[test]
    fn nobody_waits_for_ever() {
        assert_eq!(shell("exec sleep 1000", 100), Answer::Late);
        assert_eq!(shell("sleep 30 & exit 4", 60_000), Answer::Done(4, String::new()));
    }
}
