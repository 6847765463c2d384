//! What signals, keys and libvirt's events mean for the VM and for the exit status. Pure: no libvirt, no I/O.

mod news;
mod pause;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Instant;

use crate::status::State;
use crun_qemu::error::Error;

pub use news::{Button, DiskFailure, News, Order, Stop};
use pause::Pause;
use stopping::Stopping;

/// How the container's process ends.
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

/// What is to be done about a signal, a key, news or the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Have libvirt do it.
    Order(Order),
    /// Say it on stderr.
    Say(Error),
}

/// The VM's life as the supervisor sees it.
#[derive(Debug)]
pub struct Lifecycle {
    state: State,
    /// How it ends if it is us who end it.
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
        if self.is_up() { vec![Act::Order(Order::Destroy)] } else { Vec::new() }
    }

    /// Takes in what libvirt tells.
    pub fn news(&mut self, news: News, now: Instant) -> Vec<Act> {
        match news {
            News::Started => {
                self.state = State::Running;
                if self.wanted.is_some() {
                    return vec![Act::Order(Order::Destroy)];
                }
            }
            News::StartFailed(error) => self.end(Exit::Failed(error)),
            News::ShuttingDown { by_guest } => {
                self.killed_from_outside = !by_guest;
                self.state = State::ShuttingDown;
                self.pause = None;
                self.stopping = self.stopping.take().map(|_| Stopping::Heard);
            }
            News::Connected | News::Rebooted => {}
            News::Button(button) => return self.pressed(button, now),
            News::DiskFailed(failure) => return self.disk_failed(failure),
            News::Paused { by_disk } => return self.paused(by_disk, now),
            News::GoesOn => {
                if let Some(pause) = &mut self.pause {
                    pause.goes_on(now);
                }
            }
            News::Asleep => {
                let error = Error::new("the VM", "the guest has put itself to sleep, and nobody else would wake it");
                return self.once(error.hint("it is woken")).into_iter().chain([Act::Order(Order::Wake)]).collect();
            }
            News::OrderFailed(order, error) => return self.order_failed(order, error, now),
            News::Stopped(stop) => self.end(self.verdict(stop)),
            News::Lost => self.end(failed("the thread that talks to libvirt is gone")),
        }
        Vec::new()
    }

    /// What is to be done at this time; to be asked again at the [`deadline`](Self::deadline).
    pub fn turn(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        if !self.is_up() {
            return acts;
        }
        match self.pause.as_mut().map(|pause| pause.turn(now)) {
            None | Some(pause::Turn::Wait) => {}
            Some(pause::Turn::Resume) => acts.push(Act::Order(Order::Resume)),
            Some(pause::Turn::Over) => acts.extend(self.over()),
            Some(pause::Turn::GiveUp) => acts.extend(self.give_up()),
        }
        match self.stopping.as_mut().map(|stopping| stopping.turn(now)) {
            None | Some(stopping::Turn::Wait) => {}
            Some(stopping::Turn::Press) => acts.push(Act::Order(Order::PowerButton)),
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

    /// How the VM has ended, once it has.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// How far the VM is, and why it is no further.
    pub fn state(&self) -> (State, Option<String>) {
        match &self.pause {
            Some(pause) => (State::Paused, pause.failure().map(DiskFailure::told)),
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
            return vec![Act::Say(error.hint("the VM ends at once")), Act::Order(Order::Destroy)];
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

    /// It goes on for good.
    fn over(&mut self) -> Vec<Act> {
        let failure = self.pause.take().and_then(|pause| pause.failure().cloned());
        failure.map(|failure| Act::Say(failure.over())).into_iter().collect()
    }

    fn give_up(&mut self) -> Vec<Act> {
        let Some(pause) = self.pause.take() else { return Vec::new() };
        let (error, order) = match pause.failure() {
            Some(failure) => (failure.ends_it(), Order::Quit),
            None => (Error::new("the VM", "QEMU has paused it and cannot let it go on"), Order::Destroy),
        };
        self.wanted.get_or_insert(Exit::Failed(error));
        self.stopping = Some(Stopping::Heard);
        vec![Act::Order(order)]
    }

    fn order_failed(&mut self, order: Order, error: Error, now: Instant) -> Vec<Act> {
        match order {
            Order::Resume => {
                // Its failing says nothing new, and it is repeated.
                if let Some(pause) = &mut self.pause {
                    pause.again(now);
                }
                return Vec::new();
            }
            Order::PowerButton => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.answered(None, now);
                }
                // A VM that is paused, or ended meanwhile, takes no button: that has been told.
                if self.wanted.is_some() || self.pause.is_some() {
                    return Vec::new();
                }
            }
            Order::Destroy | Order::Quit | Order::Wake | Order::Memory(_) => return vec![Act::Say(error)],
        }
        self.once(error)
    }

    /// Says it unless it was said before.
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
