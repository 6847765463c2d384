//! What signals, keys and libvirt's events mean for the VM and for the exit status. Pure: no libvirt, no I/O.

mod messages;
mod pause;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Instant;

use crate::status::State;
use crun_qemu::error::Error;

pub use messages::{Button, DiskFailure, Stop, VmCommand, VmEvent};
use pause::Pause;
use stopping::Stopping;

/// End of the container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest went down by itself or at the power button, or was called off before it ran.
    Clean,
    /// The VM crashed or could not be run.
    Failed(Error),
    /// `ctrl-]`.
    Escaped,
}

impl Exit {
    /// The exit status that the contract promises.
    pub fn status(&self) -> i32 {
        match self {
            Self::Clean => 0,
            Self::Failed(_) => 1,
            Self::Escaped => 130,
        }
    }
}

/// Reaction to a signal, a key, an event or a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Have libvirt do it.
    VmCommand(VmCommand),
    /// Say it on stderr.
    Say(Error),
}

/// The VM's life as the supervisor sees it.
#[derive(Debug)]
pub struct Lifecycle {
    state: State,
    /// The end, if the supervisor causes it.
    wanted: Option<Exit>,
    killed_from_outside: bool,
    exit: Option<Exit>,
    stopping: Option<Stopping>,
    pause: Option<Pause>,
    /// The last failure of a disk.
    failure: Option<DiskFailure>,
    /// Lines that were said and are not said again.
    said: BTreeSet<String>,
}

impl Lifecycle {
    /// A VM that is being started.
    pub fn new() -> Self {
        Self {
            state: State::Starting,
            wanted: None,
            killed_from_outside: false,
            exit: None,
            stopping: None,
            pause: None,
            failure: None,
            said: BTreeSet::new(),
        }
    }

    /// A signal that asks for a shutdown. While the VM is being started it is called off: its firmware would not heed
    /// the button, and nothing of the guest is lost. A further one is the same wish.
    pub fn stop(&mut self, now: Instant) -> Vec<Act> {
        if self.state == State::Starting {
            self.wanted.get_or_insert(Exit::Clean);
            return Vec::new();
        }
        if self.exit.is_some() || self.stopping.is_some() || self.wanted.is_some() {
            return Vec::new();
        }
        let heard = self.state == State::ShuttingDown;
        self.stopping = Some(if heard { Stopping::Heard } else { Stopping::Due(now) });
        let mut acts = Vec::new();
        if let Some(pause) = &mut self.pause {
            pause.hurry(now);
            acts.extend(pause.failure().map(|failure| Act::Say(failure.delays_stop())));
        }
        acts.extend(self.turn(now));
        acts
    }

    /// `ctrl-]`.
    pub fn escape(&mut self) -> Vec<Act> {
        self.wanted = Some(Exit::Escaped);
        if self.is_up() { vec![Act::VmCommand(VmCommand::Destroy)] } else { Vec::new() }
    }

    /// Handles an event from libvirt.
    pub fn news(&mut self, news: VmEvent, now: Instant) -> Vec<Act> {
        match news {
            VmEvent::Started => {
                self.state = State::Running;
                if self.wanted.is_some() {
                    return vec![Act::VmCommand(VmCommand::Destroy)];
                }
            }
            VmEvent::StartFailed(error) => self.end(Exit::Failed(error)),
            VmEvent::ShuttingDown { by_guest } => {
                self.killed_from_outside = !by_guest;
                self.state = State::ShuttingDown;
                self.pause = None;
                self.stopping = self.stopping.take().map(|_| Stopping::Heard);
            }
            VmEvent::Connected | VmEvent::Rebooted => {}
            VmEvent::Button(button) => return self.pressed(button, now),
            VmEvent::DiskFailed(failure) => return self.disk_failed(failure),
            VmEvent::Paused { by_disk } => return self.paused(by_disk, now),
            VmEvent::GoesOn => {
                if let Some(pause) = &mut self.pause {
                    pause.goes_on(now);
                }
            }
            VmEvent::Asleep => {
                let error = Error::new("the VM", "the guest has put itself to sleep, and nobody else would wake it");
                return self
                    .once(error.hint("it is woken"))
                    .into_iter()
                    .chain([Act::VmCommand(VmCommand::Wake)])
                    .collect();
            }
            VmEvent::CommandFailed(order, error) => return self.order_failed(order, error, now),
            VmEvent::Stopped(stop) => self.end(self.verdict(stop)),
            VmEvent::Lost => self.end(failed("the thread that talks to libvirt is gone")),
        }
        Vec::new()
    }

    /// Reaction to the time; to be called again at the [`deadline`](Self::deadline).
    pub fn turn(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        if !self.is_up() {
            return acts;
        }
        match self.pause.as_mut().map(|pause| pause.turn(now)) {
            None | Some(pause::Turn::Wait) => {}
            Some(pause::Turn::Resume) => acts.push(Act::VmCommand(VmCommand::Resume)),
            Some(pause::Turn::Over) => acts.extend(self.over()),
            Some(pause::Turn::GiveUp) => acts.extend(self.give_up()),
        }
        match self.stopping.as_mut().map(|stopping| stopping.turn(now)) {
            None | Some(stopping::Turn::Wait) => {}
            Some(stopping::Turn::Press) => acts.push(Act::VmCommand(VmCommand::PowerButton)),
            Some(stopping::Turn::Complain) => {
                acts.extend(self.once(Error::new("stop", "QEMU does not answer").hint("it hangs, or the host does")));
            }
        }
        acts
    }

    /// When there is something to do even without news.
    pub fn deadline(&self) -> Option<Instant> {
        let of_pause = self.pause.as_ref().and_then(Pause::deadline);
        let of_stop = self.stopping.as_ref().and_then(Stopping::deadline);
        of_pause.into_iter().chain(of_stop).min().filter(|_| self.is_up())
    }

    /// The end of the VM, once it has ended.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// State of the VM, and the reason for it.
    pub fn state(&self) -> (State, Option<String>) {
        match &self.pause {
            Some(pause) => (State::Paused, pause.failure().map(DiskFailure::description)),
            None => (self.state, None),
        }
    }

    fn is_up(&self) -> bool {
        self.state != State::Starting && self.exit.is_none()
    }

    fn end(&mut self, exit: Exit) {
        self.pause = None;
        if self.exit.is_none() {
            self.exit = Some(self.wanted.take().unwrap_or(exit));
        }
    }

    fn pressed(&mut self, button: Button, now: Instant) -> Vec<Act> {
        // A disk that could not be written to has not been, and yet there is something to lose.
        if button == Button::NothingToLose && self.pause.is_none() && self.wanted.is_none() {
            self.stopping = Some(Stopping::Heard);
            self.wanted = Some(Exit::Clean);
            let error = Error::new("stop", "the guest listens to no power button yet and has written nothing");
            return vec![Act::Say(error.hint("the VM ends at once")), Act::VmCommand(VmCommand::Destroy)];
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.answered(Some(button), now);
        }
        Vec::new()
    }

    fn disk_failed(&mut self, failure: DiskFailure) -> Vec<Act> {
        if failure.pauses {
            self.failure = Some(failure);
            return Vec::new();
        }
        self.once(failure.reported())
    }

    fn paused(&mut self, by_disk: bool, now: Instant) -> Vec<Act> {
        if !self.is_up() || self.state == State::ShuttingDown {
            return Vec::new();
        }
        let failure = self.failure.clone().filter(|_| by_disk);
        if let Some(pause) = self.pause.as_mut().filter(|pause| pause.failure().is_some() && by_disk) {
            pause.again(now);
            return Vec::new();
        }
        let mut pause = Pause::new(failure.clone(), now);
        if self.stopping.is_some() {
            pause.hurry(now);
        }
        self.pause = Some(pause);
        failure.map(|failure| Act::Say(failure.paused())).into_iter().collect()
    }

    /// The VM goes on for good.
    fn over(&mut self) -> Vec<Act> {
        let failure = self.pause.take().and_then(|pause| pause.failure().cloned());
        failure.map(|failure| Act::Say(failure.over())).into_iter().collect()
    }

    fn give_up(&mut self) -> Vec<Act> {
        let Some(pause) = self.pause.take() else { return Vec::new() };
        let (error, order) = match pause.failure() {
            Some(failure) => (failure.ends_it(), VmCommand::Quit),
            None => (Error::new("the VM", "QEMU has paused it and cannot let it go on"), VmCommand::Destroy),
        };
        self.wanted.get_or_insert(Exit::Failed(error));
        self.stopping = Some(Stopping::Heard);
        vec![Act::VmCommand(order)]
    }

    fn order_failed(&mut self, order: VmCommand, error: Error, now: Instant) -> Vec<Act> {
        match order {
            VmCommand::Resume => {
                // The failure is nothing new, and the attempt is repeated.
                if let Some(pause) = &mut self.pause {
                    pause.again(now);
                }
                return Vec::new();
            }
            VmCommand::PowerButton => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.answered(None, now);
                }
                // A VM that is paused or has ended accepts no button, which has been reported already.
                if self.wanted.is_some() || self.pause.is_some() {
                    return Vec::new();
                }
            }
            VmCommand::Destroy | VmCommand::Quit | VmCommand::Wake | VmCommand::Memory(_) => {
                return vec![Act::Say(error)];
            }
        }
        self.once(error)
    }

    /// Reports the error unless it has been reported before.
    fn once(&mut self, error: Error) -> Vec<Act> {
        if self.said.insert(error.to_string()) { vec![Act::Say(error)] } else { Vec::new() }
    }

    fn verdict(&self, stop: Stop) -> Exit {
        match stop {
            Stop::Shutdown if self.killed_from_outside => failed("QEMU was told to end by a signal"),
            Stop::Shutdown => Exit::Clean,
            Stop::Destroyed => failed("it was destroyed from outside"),
            Stop::Crashed => failed("the guest's kernel panicked"),
            Stop::Failed => failed("QEMU ended unexpectedly"),
        }
    }
}

fn failed(why: &str) -> Exit {
    Exit::Failed(Error::new("the VM", why))
}
