//! A VM whose virtual CPUs stopped without a request. Pure.

use std::time::{Duration, Instant};

use crun_qemu::error::Error;

use super::messages::DiskFailure;

/// Time between attempts to resume; a VM that ran that long without a failure has resumed for good.
pub const RETRY: Duration = Duration::from_secs(2);
/// Longest time that a stop waits for the host's storage: less than any engine waits for the stop, so that the
/// supervisor ends QEMU, with a reason and with all data in its files.
pub const GIVE_UP: Duration = Duration::from_secs(5);
/// QEMU stops the CPUs shortly before it reports the guest's panic; after this time there was another reason.
pub const UNEXPLAINED: Duration = Duration::from_secs(3);

/// Why, and how far the way on is.
#[derive(Debug)]
pub struct Pause {
    /// The disk's failure, if a disk is the reason.
    failure: Option<DiskFailure>,
    way: Way,
    /// When it is to be ended, if it stands still then.
    give_up: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Go on when it is time.
    Retry(Instant),
    /// QEMU has been told to resume.
    Asked,
    /// The VM runs, and has resumed for good if it still does at this time.
    Trying(Instant),
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Wait,
    /// Go on.
    Resume,
    /// The VM has resumed for good.
    Over,
    /// The VM does not resume.
    GiveUp,
}

impl Pause {
    /// Because of a disk, or for a reason that is not known.
    pub fn new(failure: Option<DiskFailure>, now: Instant) -> Self {
        let give_up = failure.is_none().then_some(now + UNEXPLAINED);
        let way = if failure.is_some() { Way::Retry(now + RETRY) } else { Way::Asked };
        Self { failure, way, give_up }
    }

    /// The VM has stopped again.
    pub fn again(&mut self, now: Instant) {
        self.way = Way::Retry(now + RETRY);
    }

    /// The virtual CPUs go on.
    pub fn goes_on(&mut self, now: Instant) {
        if self.way == Way::Asked {
            self.way = Way::Trying(now + RETRY);
        }
    }

    /// The VM is to be stopped, so there is no more time than that.
    pub fn hurry(&mut self, now: Instant) {
        self.give_up.get_or_insert(now + GIVE_UP);
        if let Way::Retry(at) = &mut self.way {
            *at = (*at).min(now);
        }
    }

    /// The time has come, or not.
    pub fn turn(&mut self, now: Instant) -> Turn {
        match self.way {
            Way::Trying(at) if now >= at => Turn::Over,
            Way::Trying(_) => Turn::Wait,
            _ if self.give_up.is_some_and(|at| now >= at) => Turn::GiveUp,
            Way::Retry(at) if now >= at => {
                self.way = Way::Asked;
                Turn::Resume
            }
            _ => Turn::Wait,
        }
    }

    /// When [`turn`](Self::turn) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.way {
            Way::Trying(at) => Some(at),
            Way::Retry(at) => Some(self.give_up.map_or(at, |give_up| give_up.min(at))),
            Way::Asked => self.give_up,
        }
    }

    /// The disk's failure, if a disk is the reason.
    pub fn failure(&self) -> Option<&DiskFailure> {
        self.failure.as_ref()
    }
}

/// Messages about the failure.
impl DiskFailure {
    /// Why the VM is paused, in a few words.
    pub fn description(&self) -> String {
        format!("disk {}: {}", self.disk, self.reason())
    }

    /// The VM is paused.
    pub fn paused(&self) -> Error {
        let error = self.error(&format!("{}: the VM is paused", self.reason()));
        error.hint("it goes on by itself as soon as it can; podman stop ends it")
    }

    /// The VM has resumed.
    pub fn over(&self) -> Error {
        let why = if self.full { "the host's storage has room again" } else { "the host can write to it again" };
        self.error(&format!("{why}: the VM goes on"))
    }

    /// The guest got the error.
    pub fn reported(&self) -> Error {
        self.error("a request has failed on the host").hint("the guest was told")
    }

    /// A stop has to wait.
    pub fn delays_stop(&self) -> Error {
        let time = GIVE_UP.as_secs();
        let hint = format!("the guest can shut down if that is mended within {time} s; else it is ended as it is");
        Error::new("stop", self.description()).hint(hint)
    }

    /// The VM's end.
    pub fn ends_it(&self) -> Error {
        let error = Error::new("the VM", format!("it was stopped while it was paused: {}", self.description()));
        error.hint("what the guest had on its disks is kept, what it was about to write is lost")
    }

    fn reason(&self) -> &'static str {
        if self.full { "the host's storage is full" } else { "the host cannot write to it" }
    }

    fn error(&self, why: &str) -> Error {
        Error::new(format!("disk {}", self.disk), why)
    }
}
