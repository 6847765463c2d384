//! A command on pipes or on a terminal: the test waits for its output and types its input.

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

use super::{PATIENCE, text};

/// Output of the command so far.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
}

/// A running command.
pub struct Console {
    child: Child,
    input: Option<File>,
    output: Arc<(Mutex<Output>, Condvar)>,
    /// The command's side of the terminal, and the terminal's modes before the command.
    terminal: Option<(OwnedFd, Termios)>,
}

impl Console {
    /// Starts the command with pipes for stdin and stdout; stderr is the test's.
    pub fn on_pipes(mut command: Command) -> Self {
        Self::spawn_on_pipes(&mut command)
    }

    fn spawn_on_pipes(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let input = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stdout = File::from(OwnedFd::from(child.stdout.take().unwrap()));
        Self { child, input, output: collect(stdout), terminal: None }
    }

    /// Starts the command on a terminal.
    pub fn on_terminal(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = |fd: &OwnedFd| fd.try_clone().unwrap();
        let modes = tcgetattr(&pty.slave).unwrap();
        command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let child = command.spawn().expect("spawn");
        let master = File::from(end(&pty.master));
        let terminal = Some((pty.slave, modes));
        Self { child, input: Some(File::from(pty.master)), output: collect(master), terminal }
    }

    /// Whether the terminal is in raw mode.
    pub fn is_raw(&self) -> bool {
        let (terminal, _) = self.terminal.as_ref().expect("on a terminal");
        !tcgetattr(terminal).unwrap().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Sets the terminal's size and sends the signal that a real terminal would send.
    pub fn resize(&self, rows: u16, columns: u16) {
        let terminal = self.terminal.as_ref().expect("a terminal").0.try_clone().unwrap();
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(str::to_string);
        assert!(Command::new("stty").args(size).stdin(terminal).status().unwrap().success());
        // The terminal does not control a session, so the kernel sends no signal.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGWINCH);
    }

    /// Types `bytes`.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.input.as_mut().expect("stdin is open").write_all(bytes.as_ref()).unwrap();
    }

    /// Closes the command's stdin.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for `needle` and returns all output so far.
    #[track_caller]
    pub fn expect(&mut self, needle: &str) -> String {
        self.expect_times(needle, 1)
    }

    /// Waits until `needle` was printed `times` times and returns all output so far.
    #[track_caller]
    pub fn expect_times(&mut self, needle: &str, times: usize) -> String {
        self.try_expect(needle, times, Instant::now() + PATIENCE).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Like [`Self::expect_times`], but returns an error if the command ends or `deadline` passes first.
    pub fn try_expect(&mut self, needle: &str, times: usize, deadline: Instant) -> Result<String, String> {
        let (lock, changed) = &*self.output;
        let mut output = lock.lock().unwrap_or_else(|e| e.into_inner());
        // The output may be long, so each part is searched once.
        let (mut seen, mut found) = (0, 0);
        loop {
            while let Some(at) = find(&output.bytes[seen..], needle.as_bytes()) {
                seen += at + needle.len();
                found += 1;
            }
            seen = seen.max((output.bytes.len() + 1).saturating_sub(needle.len()));
            if found >= times {
                return Ok(text(&output.bytes));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || output.ended {
                let all = text(&output.bytes);
                return Err(format!(
                    "{needle:?} was printed {found} times of {times} in {} bytes:\n{}",
                    all.len(),
                    tail(&all)
                ));
            }
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }

    /// Waits for `needle` in the output of `podman logs -f` while the VM `runs`. After a restart podman 4.3 may end at
    /// the previous end of the container; it is then started again.
    #[track_caller]
    pub fn expect_in_logs(mut command: Command, runs: impl Fn() -> bool, needle: &str, times: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut console = Self::spawn_on_pipes(&mut command);
            match console.try_expect(needle, times, deadline) {
                Err(_) if Instant::now() < deadline && runs() => {}
                output => return output.unwrap_or_else(|why| panic!("{why}")),
            }
        }
    }

    /// Waits until this many bytes were printed.
    #[track_caller]
    pub fn expect_bytes(&mut self, many: usize) {
        let deadline = Instant::now() + PATIENCE;
        let (lock, changed) = &*self.output;
        let mut output = lock.lock().unwrap_or_else(|e| e.into_inner());
        while output.bytes.len() < many {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !output.ended, "{} bytes of {many} were printed", output.bytes.len());
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }

    /// Waits for the command's end: its exit status and all its output. A terminal must have its former modes.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", tail(&text(&self.output.0.lock().unwrap().bytes)));
            thread::sleep(Duration::from_millis(20));
        };
        // The reader ends when the last copy of the other end is closed.
        if let Some((terminal, before)) = self.terminal.take() {
            assert_eq!(tcgetattr(&terminal).unwrap(), before, "the user's terminal is not as it was");
        }
        let (lock, changed) = &*self.output;
        let mut output = lock.lock().unwrap();
        while !output.ended {
            let (next, timeout) = changed.wait_timeout(output, Duration::from_secs(5)).unwrap();
            output = next;
            if timeout.timed_out() {
                break;
            }
        }
        (status.code(), std::mem::take(&mut output.bytes))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `stream` in a thread.
fn collect(mut stream: File) -> Arc<(Mutex<Output>, Condvar)> {
    let output = Arc::new((Mutex::new(Output::default()), Condvar::new()));
    let shared = Arc::clone(&output);
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            let mut output = shared.0.lock().unwrap_or_else(|e| e.into_inner());
            output.bytes.extend_from_slice(&buffer[..read]);
            output.ended = read == 0;
            shared.1.notify_all();
            if read == 0 {
                return;
            }
        }
    });
    output
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// The last 4000 bytes.
fn tail(all: &str) -> &str {
    let start = all.len().saturating_sub(4000);
    (start..all.len()).find_map(|at| all.get(at..)).unwrap_or_default()
}
