//! From the launch description to the exit status: one loop over the console, signals, libvirt's events and DHCP.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::exec::alive;
use crun_qemu::launch::Launch;
use crun_qemu::network::dhcp;
use crun_qemu::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;

use crate::pump::Pump;
use crate::reaper;
use crate::signals::{Asked, Signals};
use crate::terminal::Terminal;
use crate::vm::{self, End, Vm};

/// What ends the VM when it is typed on a terminal: ctrl-].
const ESCAPE: u8 = 0x1d;
/// Exit status after [`ESCAPE`]: what a shell reports of a program that was interrupted.
const INTERRUPTED: u8 = 130;
/// Exit status when the engine stops the container before there is a VM: what a shell reports after SIGTERM.
const STOPPED_EARLY: u8 = 143;

/// Runs the container's VM to its end and returns the container's exit status.
///
/// # Errors
/// The VM could not be started, or it ended otherwise than by being switched off.
pub fn run() -> Result<u8> {
    let signals = Signals::take()?;
    // Where another process is the namespace's init (--pid=host), orphans come here all the same.
    prctl::set_child_subreaper(true).context("subreaper")?;
    reaper::start()?;
    let launch = fs::read(paths::LAUNCH).context(paths::LAUNCH)?;
    let launch: Launch = serde_json::from_slice(&launch).context(paths::LAUNCH)?;
    for warning in &launch.warnings {
        eprintln!("{warning}");
    }
    // Held to the end of this process: what `podman exec` waits for ends with it.
    let _alive = alive::hold(Path::new(paths::ALIVE))?;
    let dhcp = launch.tap.as_deref().map(dhcp::Server::bind).transpose()?;
    // QEMU connects when it starts, so that not a byte of the firmware's first is lost.
    let console = UnixListener::bind(paths::CONSOLE).context(paths::CONSOLE)?;
    let root = Path::new(paths::LIBVIRT);
    vm::prepare_root(root, Some(Path::new(paths::CAPABILITIES)))?;
    if signals.next() == Some(Asked::PowerOff) {
        return Ok(STOPPED_EARLY);
    }
    let vm = Vm::start(root, &launch.domain)?;
    let (console, _) = console.accept().context(paths::CONSOLE)?;
    console.set_nonblocking(true).context(paths::CONSOLE)?;
    let supervisor = Supervisor {
        vm,
        console,
        dhcp,
        signals,
        terminal: Terminal::take_over(),
        to_guest: Pump::new(),
        from_guest: Pump::new(),
        ended: None,
        interrupted: false,
    };
    supervisor.run()
}

struct Supervisor {
    vm: Vm,
    console: UnixStream,
    dhcp: Option<dhcp::Server>,
    signals: Signals,
    terminal: Terminal,
    to_guest: Pump,
    from_guest: Pump,
    ended: Option<End>,
    /// [`ESCAPE`] was typed.
    interrupted: bool,
}

/// What poll told of, in the order in which [`Supervisor::wait`] asks.
struct Ready {
    signals: bool,
    events: bool,
    stdin: bool,
    console: bool,
    dhcp: bool,
}

impl Supervisor {
    fn run(mut self) -> Result<u8> {
        loop {
            let ready = self.wait()?;
            if ready.signals {
                self.take_signals();
            }
            if ready.events {
                self.ended = self.vm.ended().or(self.ended);
            }
            if ready.stdin && self.to_guest.wants_input() {
                self.type_to_guest();
            }
            if ready.console && self.from_guest.wants_input() {
                self.from_guest.fill(self.console.as_fd());
            }
            if let Some(dhcp) = self.dhcp.as_mut().filter(|_| ready.dhcp) {
                // One packet that could not be answered: the guest asks again.
                let _ = dhcp.answer_all();
            }
            self.to_guest.drain(&self.console);
            self.from_guest.drain(std::io::stdout());
            // QEMU is gone, so the console's end has come or is about to: what it said last is still passed on.
            if let (Some(end), true, true) = (self.ended, self.from_guest.finished, self.from_guest.is_empty()) {
                return self.status(end);
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let mut fds = Vec::with_capacity(6);
        let signals = watch(&mut fds, self.signals.as_fd(), PollFlags::POLLIN);
        let events = watch(&mut fds, self.vm.events(), PollFlags::POLLIN);
        let dhcp = self.dhcp.as_ref().map(|dhcp| watch(&mut fds, dhcp.as_fd(), PollFlags::POLLIN));
        let wants_typing = self.to_guest.wants_input();
        let stdin = wants_typing.then(|| watch(&mut fds, stdin.as_fd(), PollFlags::POLLIN));
        let mut console = PollFlags::empty();
        console.set(PollFlags::POLLIN, self.from_guest.wants_input());
        console.set(PollFlags::POLLOUT, !self.to_guest.is_empty());
        let console = (!console.is_empty()).then(|| watch(&mut fds, self.console.as_fd(), console));
        if !self.from_guest.is_empty() {
            watch(&mut fds, stdout.as_fd(), PollFlags::POLLOUT);
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        let ready = |index: usize| fds[index].any().unwrap_or(false);
        Ok(Ready {
            signals: ready(signals),
            events: ready(events),
            stdin: stdin.is_some_and(ready),
            console: console.is_some_and(ready),
            dhcp: dhcp.is_some_and(ready),
        })
    }

    fn take_signals(&self) {
        while let Some(asked) = self.signals.next() {
            if asked == Asked::PowerOff {
                self.vm.press_power_button();
            }
        }
    }

    fn type_to_guest(&mut self) {
        let typed = self.to_guest.fill(std::io::stdin().as_fd());
        if let Some(at) = typed.iter().position(|byte| *byte == ESCAPE).filter(|_| self.terminal.is_interactive()) {
            self.to_guest.truncate(at);
            self.interrupted = true;
            self.vm.destroy();
        }
    }

    fn status(&self, end: End) -> Result<u8> {
        match end {
            _ if self.interrupted => Ok(INTERRUPTED),
            End::PoweredOff => Ok(0),
            End::Destroyed => Err(Error::new("VM", "it was destroyed")),
            End::Panicked => Err(Error::new("VM", "the guest's kernel panicked")),
            End::Failed => {
                Err(Error::new("VM", "QEMU ended by itself").hint("it may have been killed for lack of memory"))
            }
        }
    }
}

/// Adds a descriptor to those polled and returns its place among them.
fn watch<'a>(fds: &mut Vec<PollFd<'a>>, fd: BorrowedFd<'a>, flags: PollFlags) -> usize {
    fds.push(PollFd::new(fd, flags));
    fds.len() - 1
}
