//! Client of an ssh master: the protocol of OpenSSH's PROTOCOL.mux, version 4, on the control socket.
//!
//! Spoken here rather than by one more `ssh` because only so it is known whether a session was refused (another
//! master is needed), never opened (the command can be tried again) or lost.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use nix::sys::socket::{self, AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket};
use nix::unistd::Pid;

use super::timed::left;

const VERSION: u32 = 4;
const HELLO: u32 = 1;
const NEW_SESSION: u32 = 0x1000_0002;
const ALIVE_CHECK: u32 = 0x1000_0004;
const PERMISSION_DENIED: u32 = 0x8000_0002;
const FAILURE: u32 = 0x8000_0003;
const EXIT_MESSAGE: u32 = 0x8000_0004;
const ALIVE: u32 = 0x8000_0005;
const SESSION_OPENED: u32 = 0x8000_0006;
const TTY_ALLOC_FAIL: u32 = 0x8000_0008;
/// No escape character.
const NO_ESCAPE: u32 = u32::MAX;
/// Largest answer accepted: the master's answers are short, and this bounds the allocation.
const LONGEST: usize = 64 << 10;

/// A connection to a live master.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// The master's process.
    pub master: Pid,
}

/// Answer to the wish for a session.
#[derive(Debug)]
pub enum Opened {
    /// The guest runs the command, connected to the descriptors given.
    Session(Session),
    /// The guest's sshd takes no more sessions on this connection; nothing was run.
    Refused,
}

/// A running command.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    /// The master's process, which needs SIGWINCH when the terminal's size changes.
    pub master: Pid,
    status: Option<u32>,
    _holds: Option<Flock<File>>,
}

/// Event of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest gave no terminal; the command runs without.
    NoTerminal,
    /// All output has arrived. The command's exit status, or `None` if the connection was lost.
    Ended(Option<u32>),
}

impl Client {
    /// Connects to the master that listens at `path`.
    ///
    /// # Errors
    /// There is no master, it does not speak the protocol, or it does not answer until `deadline`.
    pub fn connect(path: &Path, deadline: Instant) -> io::Result<Self> {
        let mut stream = connect(path)?;
        until(&stream, deadline)?;
        Packet::new(HELLO).u32(VERSION).send(&mut stream)?;
        let (kind, mut body) = receive(&mut stream)?;
        if kind != HELLO || body.u32()? != VERSION {
            return Err(io::Error::other("another version of the protocol"));
        }
        Packet::new(ALIVE_CHECK).u32(0).send(&mut stream)?;
        let (kind, mut body) = receive(&mut stream)?;
        if kind != ALIVE || body.u32()? != 0 {
            return Err(io::Error::other("unexpected answer"));
        }
        let master = Pid::from_raw(body.u32()? as i32);
        Ok(Self { stream, master })
    }

    /// Runs `command` with `stdio`; with `term`, on a terminal of that type, with the modes and size of `stdio[0]`.
    ///
    /// # Errors
    /// The connection was lost or `deadline` passed before the session was opened: nothing was run.
    pub fn open(
        mut self,
        command: &[u8],
        term: Option<&[u8]>,
        stdio: [BorrowedFd<'_>; 3],
        deadline: Instant,
    ) -> io::Result<Opened> {
        until(&self.stream, deadline)?;
        Packet::new(NEW_SESSION)
            .u32(1)
            .bytes(b"")
            .u32(term.is_some().into())
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(NO_ESCAPE)
            .bytes(term.unwrap_or_default())
            .bytes(command)
            .send(&mut self.stream)?;
        for fd in stdio {
            let fds = [fd.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        }
        until(&self.stream, deadline)?;
        let (kind, _) = receive(&mut self.stream)?;
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        match kind {
            SESSION_OPENED => {
                Ok(Opened::Session(Session { stream: self.stream, master: self.master, status: None, _holds: None }))
            }
            FAILURE | PERMISSION_DENIED => Ok(Opened::Refused),
            _ => Err(io::Error::other("unexpected answer")),
        }
    }
}

impl Session {
    /// Keeps the lock for the length of the session.
    pub fn holding(self, lock: Flock<File>) -> Self {
        Self { _holds: Some(lock), ..self }
    }

    /// Waits for what happens next. To be called when the descriptor is readable, or to block.
    #[expect(clippy::should_implement_trait, reason = "no iterator: the last event comes again and again")]
    pub fn next(&mut self) -> Event {
        loop {
            match receive(&mut self.stream) {
                Ok((EXIT_MESSAGE, mut body)) => self.status = body.u32().and_then(|_| body.u32()).ok(),
                Ok((TTY_ALLOC_FAIL, _)) => return Event::NoTerminal,
                Ok(_) => {}
                Err(_) => return Event::Ended(self.status),
            }
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// A master with a full queue counts as one that does not answer: no wait for it.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Bounds every wait for the master, which is ours and answers in one piece.
fn until(stream: &UnixStream, deadline: Instant) -> io::Result<()> {
    let time = Some(left(deadline).max(Duration::from_millis(1)));
    stream.set_read_timeout(time)?;
    stream.set_write_timeout(time)
}

/// A message under construction: a length, then 32-bit numbers and strings with their lengths, big-endian.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u32) -> Self {
        Self(vec![0; 4]).u32(kind)
    }

    fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_be_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut packet = self.u32(bytes.len() as u32);
        packet.0.extend(bytes);
        packet
    }

    fn send(mut self, stream: &mut UnixStream) -> io::Result<()> {
        let length = self.0.len() as u32 - 4;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&self.0)
    }
}

/// The rest of a received message.
struct Body(io::Cursor<Vec<u8>>);

impl Body {
    fn u32(&mut self) -> io::Result<u32> {
        let mut n = [0; 4];
        self.0.read_exact(&mut n)?;
        Ok(u32::from_be_bytes(n))
    }
}

fn receive(stream: &mut UnixStream) -> io::Result<(u32, Body)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let mut body = Body(io::Cursor::new(body));
    Ok((body.u32()?, body))
}
