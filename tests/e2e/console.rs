//! A command whose output is waited for and that can be typed to.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

use crate::harness::{PATIENCE, text};

/// What the command has said.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    ended: bool,
}

/// A running command.
pub struct Console {
    child: Child,
    input: Option<File>,
    said: Arc<(Mutex<Said>, Condvar)>,
    /// The terminal's other end, kept so that its modes can be looked at, and its modes before the command.
    terminal: Option<(OwnedFd, Termios)>,
}

impl Console {
    /// Its standard streams are pipes; stderr is passed on to the test's.
    pub fn on_pipes(mut command: Command) -> Self {
        Self::spawn_on_pipes(&mut command)
    }

    fn spawn_on_pipes(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let input = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let output = File::from(OwnedFd::from(child.stdout.take().unwrap()));
        Self { child, input, said: listen(output), terminal: None }
    }

    /// Its standard streams are a terminal.
    pub fn on_terminal(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = |fd: &OwnedFd| fd.try_clone().unwrap();
        let modes = tcgetattr(&pty.slave).unwrap();
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let child = command.spawn().expect("spawn");
        let output = File::from(end(&pty.master));
        Self { child, input: Some(File::from(pty.master)), said: listen(output), terminal: Some((pty.slave, modes)) }
    }

    /// Whether its terminal is in raw mode.
    pub fn is_raw(&self) -> bool {
        let (terminal, _) = self.terminal.as_ref().expect("on a terminal");
        !tcgetattr(terminal).unwrap().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Sets the terminal's size, of which the command hears as from a real terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        let terminal = self.terminal.as_ref().expect("a terminal").0.try_clone().unwrap();
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(str::to_string);
        assert!(Command::new("stty").args(size).stdin(terminal).status().unwrap().success());
        // The terminal is not this session's, so the kernel tells nobody.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGWINCH);
    }

    /// Types.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.input.as_mut().expect("stdin is open").write_all(bytes.as_ref()).unwrap();
    }

    /// Ends the command's stdin.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for `needle` and returns everything said so far.
    #[track_caller]
    pub fn expect(&mut self, needle: &str) -> String {
        self.expect_times(needle, 1)
    }

    /// Waits until `needle` has been said `times` times and returns everything said so far.
    #[track_caller]
    pub fn expect_times(&mut self, needle: &str, times: usize) -> String {
        self.try_expect(needle, times, Instant::now() + PATIENCE).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, but the command's end, or none of it by `deadline`, is the caller's affair.
    pub fn try_expect(&mut self, needle: &str, times: usize, deadline: Instant) -> Result<String, String> {
        let (lock, news) = &*self.said;
        let mut said = lock.lock().unwrap_or_else(|e| e.into_inner());
        // Looked at once: what is said may be long.
        let (mut seen, mut found) = (0, 0);
        loop {
            while let Some(at) = find(&said.bytes[seen..], needle.as_bytes()) {
                seen += at + needle.len();
                found += 1;
            }
            seen = seen.max((said.bytes.len() + 1).saturating_sub(needle.len()));
            if found >= times {
                return Ok(text(&said.bytes));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || said.ended {
                let all = text(&said.bytes);
                return Err(format!(
                    "{needle:?} was said {found} times of {times} in {} bytes:\n{}",
                    all.len(),
                    tail(&all)
                ));
            }
            said = news.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Waits for `needle` in what `podman logs -f` says while the VM `runs`: after a restart podman 4.3 may take the end
    /// of the container's life before for its own, and has to be started again.
    #[track_caller]
    pub fn expect_again(mut command: Command, runs: impl Fn() -> bool, needle: &str, times: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut console = Self::spawn_on_pipes(&mut command);
            match console.try_expect(needle, times, deadline) {
                Err(_) if Instant::now() < deadline && runs() => {}
                said => return said.unwrap_or_else(|why| panic!("{why}")),
            }
        }
    }

    /// Waits until this many bytes have been said.
    #[track_caller]
    pub fn expect_bytes(&mut self, many: usize) {
        let deadline = Instant::now() + PATIENCE;
        let (lock, news) = &*self.said;
        let mut said = lock.lock().unwrap_or_else(|e| e.into_inner());
        while said.bytes.len() < many {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !said.ended, "{} bytes of {many} were said", said.bytes.len());
            said = news.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Waits for the command's end: its exit status and everything it said. A terminal has to be as it was before.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", tail(&text(&self.said.0.lock().unwrap().bytes)));
            thread::sleep(Duration::from_millis(20));
        };
        // The reader ends with the last holder of the other end.
        if let Some((terminal, before)) = self.terminal.take() {
            assert_eq!(tcgetattr(&terminal).unwrap(), before, "the user's terminal is not as it was");
        }
        let (lock, news) = &*self.said;
        let mut said = lock.lock().unwrap();
        while !said.ended {
            let (next, timeout) = news.wait_timeout(said, Duration::from_secs(5)).unwrap();
            said = next;
            if timeout.timed_out() {
                break;
            }
        }
        (status.code(), std::mem::take(&mut said.bytes))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(mut output: File) -> Arc<(Mutex<Said>, Condvar)> {
    let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
    let shared = Arc::clone(&said);
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        loop {
            let read = output.read(&mut buffer).unwrap_or(0);
            let mut said = shared.0.lock().unwrap_or_else(|e| e.into_inner());
            said.bytes.extend_from_slice(&buffer[..read]);
            said.ended = read == 0;
            shared.1.notify_all();
            if read == 0 {
                return;
            }
        }
    });
    said
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn tail(all: &str) -> &str {
    let start = all.len().saturating_sub(4000);
    (start..all.len()).find_map(|at| all.get(at..)).unwrap_or_default()
}
