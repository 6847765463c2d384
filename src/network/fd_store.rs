//! Process that holds descriptors between network set-up and the supervisor.
//!
//! The process that sets up the network is not the supervisor, and crun closes every descriptor on the way. The fd
//! store keeps them until the supervisor asks, for at most as long as the container's first process lives.

use std::fs;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, setsid};

use super::Descriptors;
use crate::error::{Context, Error, Result};
use crate::linux;
use crate::request::ports;

/// Name of the fd store in errors and, as far as it fits, in `ps`.
const FD_STORE: &str = "crun-qemu-fd-store";

/// Starts the fd store, which listens on the socket `name` in `dir`. `first` is the container's first process.
///
/// # Errors
/// It could not be started; there is no fd store then.
pub fn start(held: Descriptors, dir: &Path, name: &str, first: Pid) -> Result<()> {
    let (mut said, mut tell) = pipe().context(FD_STORE)?;
    // SAFETY: crun and the hook have one thread, so that the child can do all that its parent can; it never returns.
    match unsafe { fork() }.context(FD_STORE)? {
        ForkResult::Child => {
            drop(said);
            // A panic must not get back into what crun does.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                if let Err(e) = keep(&held, dir, name, first, &mut tell) {
                    let _ = tell.write_all(e.to_string().as_bytes());
                }
            }));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell, held));
            let mut answer = String::new();
            said.read_to_string(&mut answer).context(FD_STORE)?;
            if answer == READY {
                return Ok(());
            }
            let _ = waitpid(child, None);
            Err(Error::new(FD_STORE, answer))
        }
    }
}

/// Message of the fd store once it listens.
const READY: &str = "ready";

/// The fd store's whole life.
fn keep(held: &Descriptors, dir: &Path, name: &str, first: Pid, tell: &mut (impl Write + AsRawFd)) -> Result<()> {
    let watch = above_stdio(open_process(first)?)?;
    let listener = above_stdio(listen(dir, name)?.into())?;
    let held_fds = held.kept.iter().chain(&held.router).map(|fd| above_stdio(fd.try_clone().context(FD_STORE)?));
    let kept = held_fds.collect::<Result<Vec<OwnedFd>>>()?;
    let all = kept.iter().chain([&watch, &listener]).map(AsRawFd::as_raw_fd).collect();
    confine()?;
    tell.write_all(READY.as_bytes()).context(FD_STORE)?;
    close_all_but(all).context(FD_STORE)?;
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE).context(FD_STORE)?;
    if fds[1].any() == Some(true) {
        let (stream, _) = UnixListener::from(listener).accept().context(FD_STORE)?;
        let fds: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let last = [if held.router.is_some() { ROUTER } else { NO_ROUTER }];
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&last)], &rights, MsgFlags::MSG_NOSIGNAL, None)
            .context(FD_STORE)?;
    }
    Ok(())
}

/// Byte that comes with the descriptors if the last of them is the router's.
const ROUTER: u8 = b'r';
const NO_ROUTER: u8 = b'-';
/// The tap, two tables, the router, and a claim for each port and protocol.
const MOST: usize = 4 + 2 * ports::MOST;

/// Takes the descriptors from the fd store at `socket`, which then ends; `None` if there is no fd store.
///
/// # Errors
/// It sends no descriptors.
pub fn take(socket: &Path) -> Result<Option<Descriptors>> {
    let stream = match UnixStream::connect(socket) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        result => result.context(socket.display())?,
    };
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags).context(FD_STORE)?;
    let fds = message.cmsgs().context(FD_STORE)?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.ok_or_else(|| Error::new(FD_STORE, "it sent no descriptors"))?;
    // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
    let mut kept: Vec<OwnedFd> = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    let router = if byte == [ROUTER] { kept.pop() } else { None };
    Ok(Some(Descriptors { kept, router }))
}

/// Listens under a relative name: a bundle's path may be longer than a socket's name can be.
fn listen(dir: &Path, name: &str) -> Result<UnixListener> {
    std::env::set_current_dir(dir).context(dir.display())?;
    match fs::remove_file(name) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context(dir.join(name).display()),
        _ => {}
    }
    let listener = UnixListener::bind(name).context(dir.join(name).display())?;
    std::env::set_current_dir("/").context("/")?;
    Ok(listener)
}

/// A pidfd, readable once the process has ended.
///
/// # Errors
/// The process does not exist.
pub fn open_process(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: a system call with two numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) }).context("pidfd")?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Duplicates the descriptor to a number above the standard streams.
fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(3)).context(FD_STORE)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Drops everything but waiting: signals, terminal, capabilities. Its memory, which is a copy of the parent's, cannot
/// be read by others.
fn confine() -> Result<()> {
    SigSet::all().thread_block().context(FD_STORE)?;
    setsid().context(FD_STORE)?;
    prctl::set_name(c"crun-qemu-fds").context(FD_STORE)?;
    linux::set_capabilities(0).context("capabilities")?;
    prctl::set_dumpable(false).context(FD_STORE)
}

/// Closes every descriptor but these, the engine's pipes above all; the standard streams become `/dev/null`.
fn close_all_but(mut kept: Vec<RawFd>) -> nix::Result<()> {
    kept.sort_unstable();
    let null = fs::File::options().read(true).write(true).open("/dev/null").map_err(|_| Errno::last())?;
    for stream in 0..3 {
        // SAFETY: numbers; nothing in this process uses the standard streams any more.
        Errno::result(unsafe { libc::dup2(null.as_raw_fd(), stream) })?;
    }
    drop(null);
    let mut first = 3;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if first < fd {
            // SAFETY: numbers; who owns one of these descriptors here is never dropped, as this process only exits.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) })?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}
