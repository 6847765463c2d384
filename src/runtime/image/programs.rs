//! Programs that run to their end. A signal that ends this process reaches them, and everything made so far is removed.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crun_qemu::error::{Context, Error, Result, message};
use crun_qemu::host;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// Signals that ask a process to end.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// The way to run programs, one for the process.
pub struct Programs {
    /// [`ENDING`] come by this descriptor.
    signals: SignalFd,
    /// The signals that were blocked before, and are in programs.
    blocked: SigSet,
}

impl Programs {
    /// Blocks the signals.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn new() -> Result<Self> {
        let ignored = ignored_signals();
        let mut set = SigSet::empty();
        // A signal that nohup has set aside stays so.
        ENDING.into_iter().filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 0).for_each(|signal| set.add(signal));
        let blocked = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("signals")?;
        Ok(Self { signals: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("signals")?, blocked })
    }

    /// Runs `command` without input; returns whether it succeeded.
    ///
    /// # Errors
    /// It cannot be started, or a signal came.
    pub fn succeeds(&self, command: &mut Command) -> Result<bool> {
        let mut child = self.start(command.stdin(Stdio::null()))?;
        self.wait(std::slice::from_mut(&mut child))
    }

    /// Runs `command`, which prints a line or nothing; returns the line where it succeeded.
    ///
    /// # Errors
    /// It cannot be started, or a signal came.
    pub fn line(&self, command: &mut Command) -> Result<Option<String>> {
        let mut children = [self.start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?];
        let succeeded = self.wait(&mut children)?;
        let mut text = String::new();
        // A process that the program left behind may hold the other end, and no line is longer than this.
        children[0].stdout.take().map(|out| out.take(4096).read_to_string(&mut text)).transpose().context("output")?;
        Ok(succeeded.then(|| text.trim().to_owned()))
    }

    /// Runs both, the output of the first being the input of the second; returns whether both succeeded.
    ///
    /// # Errors
    /// One of them cannot be started, or a signal came.
    pub fn pipe(&self, mut from: Command, mut to: Command) -> Result<bool> {
        let mut first = self.start(from.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = first.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let second = self.start(to.stdin(output));
        // Only the second program holds the pipe now, so the first one notices when the second one ends.
        drop(to);
        let second = second.inspect_err(|_| drop(first.wait()))?;
        self.wait(&mut [first, second])
    }

    /// Copies `file` to `path`: as a reflink if the file system supports it, else with its holes.
    ///
    /// # Errors
    /// It cannot be copied (`cp` has printed the reason), or a signal came.
    pub fn copy(&self, file: &File, path: &Path) -> Result<()> {
        let mut cp = Command::new("cp");
        cp.args(["--reflink=auto", "--sparse=always", "--", "/proc/self/fd/0"]).arg(path);
        let mut child = self.start(cp.stdin(file.try_clone().context(path.display())?))?;
        match self.wait(std::slice::from_mut(&mut child))? {
            true => Ok(()),
            false => Err(Error::new(path.display().to_string(), "the VM image could not be copied to it")),
        }
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        let (name, blocked) = (command.get_program().to_string_lossy().into_owned(), self.blocked);
        // SAFETY: between fork and exec the child makes one system call, and touches no memory but its own copy of a
        // set.
        unsafe { command.pre_exec(move || blocked.thread_set_mask().map_err(Into::into)) };
        command.spawn().map_err(|e| Error::new(name, message(&e)))
    }

    /// Waits for all; returns whether all succeeded.
    fn wait(&self, children: &mut [Child]) -> Result<bool> {
        let mut succeeded = true;
        for index in 0..children.len() {
            if let Some(signal) = self.signal_before_end_of(&children[index])? {
                for child in &mut *children {
                    // A child that was waited for keeps its status, and gets no signal.
                    if matches!(child.try_wait(), Ok(None)) {
                        let _ = kill(Pid::from_raw(child.id() as i32), signal);
                        let _ = child.wait();
                    }
                }
                return Err(Error::new("image", format!("ended by {signal}")));
            }
            succeeded &= children[index].wait().context("programs")?.success();
        }
        Ok(succeeded)
    }

    /// Waits for the child's end; returns the signal that came before it.
    fn signal_before_end_of(&self, child: &Child) -> Result<Option<Signal>> {
        let Some(end) = host::watch(child) else { return Ok(None) };
        loop {
            let mut fds = [&end.as_fd(), &self.signals.as_fd()].map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => polled.context("programs")?,
            };
            if fds[0].any().unwrap_or(true) {
                return Ok(None);
            }
            let info = self.signals.read_signal().context("signals")?;
            return Ok(info.and_then(|info| Signal::try_from(info.ssi_signo as i32).ok()));
        }
    }
}

/// The signals that this process ignores, a bit each.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn programs_are_run_to_their_end() {
        let programs = Programs::new().unwrap();
        assert_eq!(programs.succeeds(&mut sh("exit 0")), Ok(true));
        assert_eq!(programs.succeeds(&mut sh("exit 3")), Ok(false));
        assert_eq!(programs.line(&mut sh("echo /a b")), Ok(Some("/a b".into())));
        assert_eq!(programs.line(&mut sh("echo x; exit 1")), Ok(None));
        assert_eq!(programs.pipe(sh("echo x"), sh("read x && test $x = x")), Ok(true));
        assert_eq!(programs.pipe(sh("exit 1"), sh("cat")), Ok(false));
        assert_eq!(programs.pipe(sh("yes"), sh("exit 1")), Ok(false));
        let error = programs.succeeds(&mut Command::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere: No such file or directory");
    }

    #[test]
    fn a_signal_ends_all() {
        let programs = Programs::new().unwrap();
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        let error = programs.pipe(sh("exec sleep 20"), sh("exec sleep 20")).unwrap_err();
        assert_eq!(error.to_string(), "image: ended by SIGTERM");
    }

    #[test]
    fn a_copy_has_holes() {
        use std::os::unix::fs::MetadataExt;

        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut content = vec![0; 8 << 20];
        content[5 << 20] = 1;
        fs::write(&from, &content).unwrap();
        Programs::new().unwrap().copy(&File::open(&from).unwrap(), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content);
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }
}
