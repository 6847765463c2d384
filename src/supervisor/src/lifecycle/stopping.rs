//! The power button, pressed until the guest reacts. Pure.
//!
//! One press is not enough: while a guest boots it does not listen, and nothing reports when it does. Further presses
//! do no harm: in a guest that is already shutting down, systemd-logind, acpid and Windows treat them as the same
//! request, and QEMU reports when the guest has powered off.

use std::time::{Duration, Instant};

use super::messages::Button;

/// Between presses: long enough for a guest to act on one, and engines' shortest usual time to stop holds a few.
pub const AGAIN: Duration = Duration::from_secs(3);
/// Between looks at whether the guest's kernel listens.
pub const LOOK: Duration = Duration::from_millis(500);
/// QEMU answers within milliseconds; after this time something is wrong with it.
pub const ANSWER: Duration = Duration::from_secs(10);

/// The wish that the guest shuts down.
#[derive(Debug)]
pub enum Stopping {
    /// Press when it is time.
    Due(Instant),
    /// Start of the press in progress; whether its long duration was reported.
    Asked(Instant, bool),
    /// The guest is on its way out.
    Heard,
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Wait,
    /// Press.
    Press,
    /// Say that QEMU does not answer.
    Complain,
}

impl Stopping {
    /// The time has come, or not.
    pub fn turn(&mut self, now: Instant) -> Turn {
        match *self {
            Self::Due(at) if now >= at => {
                *self = Self::Asked(now, false);
                Turn::Press
            }
            Self::Asked(since, false) if now >= since + ANSWER => {
                *self = Self::Asked(since, true);
                Turn::Complain
            }
            _ => Turn::Wait,
        }
    }

    /// Handles the result of a press; a press that could not be made (`None`) is repeated.
    pub fn answered(&mut self, button: Option<Button>, now: Instant) {
        if let Self::Asked(..) = self {
            let pause = if button == Some(Button::Pressed) || button.is_none() { AGAIN } else { LOOK };
            *self = Self::Due(now + pause);
        }
    }

    /// When [`turn`](Self::turn) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Due(at) => Some(at),
            Self::Asked(since, false) => Some(since + ANSWER),
            _ => None,
        }
    }
}
