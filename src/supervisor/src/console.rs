//! The guest's serial console: bytes between QEMU's end of a Unix socket and the container's standard streams.

use std::io::{self, Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crun_qemu::error::{Context, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::Ids;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::privileges;

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;
/// Typed ahead on a terminal, in bytes, while the guest takes nothing; more is dropped, as `ctrl-]` must be heard.
const TYPED_AHEAD: usize = 1 << 20;
/// Time for which output is gathered before it is passed on: too short to be visible, and QEMU's socket, which is full
/// after some 250 one-byte writes, can hold what a fast guest prints in that time.
const GATHER: Duration = Duration::from_micros(200);
/// `ctrl-]`.
const ESCAPE: u8 = 0x1d;

/// The two ends, and the bytes between them.
pub struct Console {
    listener: Option<UnixListener>,
    serial: Option<UnixStream>,
    /// Something has come from the guest.
    spoken: bool,
    /// The guest sends nothing more: QEMU has ended, or never came.
    ended: bool,
    tty: bool,
    input_open: bool,
    output_open: bool,
    /// Bytes from the guest.
    output: Queue,
    /// Bytes to the guest.
    input: Queue,
}

impl Console {
    /// Listens for QEMU. To be called before QEMU is started: then not a byte is lost.
    pub fn listen(tty: bool, qemu: Option<Ids>) -> Result<Self> {
        let _ = std::fs::remove_file(paths::CONSOLE);
        let listener = UnixListener::bind(paths::CONSOLE).context(paths::CONSOLE)?;
        privileges::let_in(Path::new(paths::CONSOLE), qemu)?;
        listener.set_nonblocking(true).context(paths::CONSOLE)?;
        Ok(Self {
            listener: Some(listener),
            serial: None,
            spoken: false,
            ended: false,
            tty,
            input_open: true,
            output_open: true,
            output: Queue::default(),
            input: Queue::default(),
        })
    }

    /// Moves what can be moved without waiting. Returns whether `ctrl-]` was typed.
    pub fn turn(&mut self) -> bool {
        self.accept();
        self.output_turn();
        let escaped = self.read_input();
        self.write_input();
        escaped
    }

    /// Passes the descriptors to wait for to `add`. A descriptor of no interest is left out, because `poll` reports its
    /// hang-up anyway.
    pub fn interests<'a>(&'a self, streams: &'a Streams, mut add: impl FnMut(PollFd<'a>)) {
        if let Some(listener) = &self.listener {
            add(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some(serial) = &self.serial {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, !self.ended && self.output.is_empty());
            flags.set(PollFlags::POLLOUT, !self.input.is_empty());
            if !flags.is_empty() {
                add(PollFd::new(serial.as_fd(), flags));
            }
        }
        if self.output_open && !self.output.is_empty() {
            add(PollFd::new(streams.output.as_fd(), PollFlags::POLLOUT));
        }
        if self.wants_input() {
            add(PollFd::new(streams.input.as_fd(), PollFlags::POLLIN));
        }
    }

    /// Whether the guest has sent anything yet.
    pub fn has_spoken(&self) -> bool {
        self.spoken
    }

    /// QEMU has ended: accepts a connection that it made before, if any, and stops waiting for one.
    pub fn hang_up(&mut self) {
        self.accept();
        self.listener = None;
        self.ended |= self.serial.is_none();
        self.input_open = false;
    }

    /// Whether everything that the guest wrote has been passed on.
    pub fn is_drained(&self) -> bool {
        self.ended && (self.output.is_empty() || !self.output_open)
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok((serial, _)) = listener.accept() else { return };
        if serial.set_nonblocking(true).is_ok() {
            self.serial = Some(serial);
            self.listener = None;
        }
    }

    /// Guest to stdout. A chunk is read only after the previous one has been written: the guest waits for the reader of
    /// our stdout.
    fn output_turn(&mut self) {
        loop {
            if !self.output.is_empty() {
                if !self.output_open {
                    self.output.clear();
                } else if let Flow::Closed = self.output.write_to(|bytes| Ok(nix::unistd::write(stdout(), bytes)?)) {
                    // No process will ever read it. The VM goes on all the same.
                    self.output_open = false;
                    self.output.clear();
                } else if !self.output.is_empty() {
                    return;
                }
            }
            let Some(serial) = self.serial.as_mut().filter(|_| !self.ended) else { return };
            match self.output.read_from(|buffer| serial.read(buffer)) {
                Flow::Moved => {
                    self.spoken = true;
                    // QEMU sends byte by byte, and each costs everybody up to the user's terminal a wake-up.
                    std::thread::sleep(GATHER);
                    // If the guest has gone, the next read reports it too.
                    let _ = self.output.read_from(|buffer| serial.read(buffer));
                }
                Flow::Wait => return,
                Flow::Closed => self.ended = true,
            }
        }
    }

    fn wants_input(&self) -> bool {
        // Without a terminal the sender waits for the guest; a terminal's user cannot.
        self.input_open && (self.tty || self.input.is_empty())
    }

    fn read_input(&mut self) -> bool {
        if !self.wants_input() || !readable() {
            return false;
        }
        let mut chunk = [0; 4096];
        match nix::unistd::read(stdin(), &mut chunk) {
            Ok(0) => self.input_open = false,
            Ok(n) if is_escape(self.tty, &chunk[..n]) => return true,
            Ok(n) if self.input.len() + n <= TYPED_AHEAD => self.input.push(&chunk[..n]),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.input_open = false,
        }
        false
    }

    fn write_input(&mut self) {
        let Some(serial) = self.serial.as_mut() else { return };
        if let Flow::Closed = self.input.write_to(|bytes| serial.write(bytes)) {
            self.input.clear();
            self.input_open = false;
        }
    }
}

/// The standard streams, kept as long as they are waited for.
pub struct Streams {
    input: io::Stdin,
    output: io::Stdout,
}

impl Streams {
    /// This process' own.
    pub fn new() -> Self {
        Self { input: stdin(), output: stdout() }
    }
}

/// Whether a read of stdin returns at once. Stdin is never made non-blocking: its description may be shared.
fn readable() -> bool {
    let input = stdin();
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

/// Whether the typed bytes end the VM. Without a terminal the escape byte is ordinary input.
fn is_escape(tty: bool, typed: &[u8]) -> bool {
    tty && typed.contains(&ESCAPE)
}

/// Result of a read or write.
enum Flow {
    Moved,
    Wait,
    Closed,
}

/// Bytes on their way.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Number of bytes already written.
    gone: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.gone = 0;
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds what one read brings.
    fn read_from(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Flow {
        let old = self.bytes.len();
        self.bytes.resize(old + CHUNK, 0);
        let result = read(&mut self.bytes[old..]);
        self.bytes.truncate(old + *result.as_ref().unwrap_or(&0));
        flow(result)
    }

    /// Writes until everything is written or the write would block.
    fn write_to(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> Flow {
        while !self.is_empty() {
            let result = write(&self.bytes[self.gone..]);
            self.gone += *result.as_ref().unwrap_or(&0);
            match flow(result) {
                Flow::Moved => {}
                other => return other,
            }
        }
        self.clear();
        Flow::Moved
    }
}

fn flow(result: io::Result<usize>) -> Flow {
    match result {
        Ok(0) => Flow::Closed,
        Ok(_) => Flow::Moved,
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Flow::Wait,
        Err(_) => Flow::Closed,
    }
}

#[cfg(test)]
mod tests;
