//! What signals, keys and libvirt's events mean for the VM and for the exit status. Pure: no libvirt, no I/O.

use crun_qemu::error::Error;

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

/// What libvirt is to do with the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Press the ACPI power button once.
    PowerButton,
    /// End the VM at once.
    Destroy,
    /// Have the guest make do with so many bytes of memory.
    Memory(u64),
}

/// What libvirt tells of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// libvirt is ready.
    Connected,
    /// The virtual CPUs run.
    Started,
    /// There is no VM.
    StartFailed(Error),
    /// QEMU shuts down; `by_guest` is false when QEMU itself was told to end.
    ShuttingDown {
        /// Whether the guest asked for it.
        by_guest: bool,
    },
    /// The guest, or its firmware, starts over.
    Rebooted,
    /// An order could not be carried out.
    OrderFailed(Error),
    /// QEMU is gone.
    Stopped(Stop),
    /// The thread that talks to libvirt is gone.
    Lost,
}

/// libvirt's reasons for a VM that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Shut down.
    Shutdown,
    /// Destroyed on order.
    Destroyed,
    /// The guest's kernel panicked.
    Crashed,
    /// QEMU ended without a word, or anything else.
    Failed,
}

/// The VM's life as the supervisor sees it.
#[derive(Debug)]
pub struct Lifecycle {
    running: bool,
    /// How it ends if it is us who end it.
    wanted: Option<Exit>,
    killed_from_outside: bool,
    exit: Option<Exit>,
}

impl Lifecycle {
    /// A VM that is being started.
    pub fn new() -> Self {
        Self { running: false, wanted: None, killed_from_outside: false, exit: None }
    }

    /// A signal that asks for a shutdown. While the VM is being started it is called off: its firmware would not heed
    /// the button, and nothing of the guest is lost.
    pub fn power_button(&mut self) -> Option<Order> {
        if self.running {
            return Some(Order::PowerButton);
        }
        self.wanted.get_or_insert(Exit::Clean);
        None
    }

    /// `ctrl-]`.
    pub fn escape(&mut self) -> Option<Order> {
        self.wanted = Some(Exit::Escaped);
        self.running.then_some(Order::Destroy)
    }

    /// Takes in what libvirt tells; returns what it is to do about it.
    pub fn news(&mut self, news: News) -> Option<Order> {
        match news {
            News::Started => {
                self.running = true;
                return self.wanted.is_some().then_some(Order::Destroy);
            }
            News::StartFailed(error) => self.end(Exit::Failed(error)),
            News::ShuttingDown { by_guest } => self.killed_from_outside = !by_guest,
            News::Connected | News::OrderFailed(_) | News::Rebooted => {}
            News::Stopped(stop) => self.end(self.verdict(stop)),
            News::Lost => self.end(failed("the thread that talks to libvirt is gone")),
        }
        None
    }

    /// How the VM has ended, once it has.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    fn end(&mut self, exit: Exit) {
        self.running = false;
        if self.exit.is_none() {
            self.exit = Some(self.wanted.take().unwrap_or(exit));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        Button(Option<Order>),
        Escape(Option<Order>),
        Told(News, Option<Order>),
    }
    use Step::*;

    /// Walks through the steps, checking each answer; returns the exit status, if the VM has ended.
    fn walk(steps: Vec<Step>) -> Option<i32> {
        let mut life = Lifecycle::new();
        for (i, step) in steps.into_iter().enumerate() {
            let (got, want) = match step {
                Button(want) => (life.power_button(), want),
                Escape(want) => (life.escape(), want),
                Told(news, want) => (life.news(news), want),
            };
            assert_eq!(got, want, "step {i}");
        }
        life.exit().map(Exit::status)
    }

    fn error() -> Error {
        Error::new("libvirt", "no")
    }

    #[test]
    fn exit_status() {
        use super::News as N;
        let started = || Told(N::Started, None);
        let stopped = |stop| Told(N::Stopped(stop), None);
        let by_guest = |by_guest| Told(N::ShuttingDown { by_guest }, None);
        let cases = [
            ("runs", vec![started()], None),
            ("guest power-off", vec![started(), by_guest(true), stopped(Stop::Shutdown)], Some(0)),
            ("reboot", vec![started(), Told(N::Rebooted, None)], None),
            ("QEMU got SIGTERM", vec![started(), by_guest(false), stopped(Stop::Shutdown)], Some(1)),
            ("QEMU got SIGKILL", vec![started(), stopped(Stop::Failed)], Some(1)),
            ("panic", vec![started(), stopped(Stop::Crashed)], Some(1)),
            ("destroyed by another", vec![started(), stopped(Stop::Destroyed)], Some(1)),
            ("cannot start", vec![Told(N::StartFailed(error()), None)], Some(1)),
            ("libvirt thread gone", vec![started(), Told(N::Lost, None)], Some(1)),
            ("lost after the end", vec![started(), stopped(Stop::Shutdown), Told(N::Lost, None)], Some(0)),
            (
                "stop twice",
                vec![
                    started(),
                    Button(Some(Order::PowerButton)),
                    Button(Some(Order::PowerButton)),
                    by_guest(true),
                    stopped(Stop::Shutdown),
                ],
                Some(0),
            ),
            ("stop and crash", vec![started(), Button(Some(Order::PowerButton)), stopped(Stop::Crashed)], Some(1)),
            ("ignored button", vec![started(), Button(Some(Order::PowerButton))], None),
            (
                "failed button",
                vec![started(), Button(Some(Order::PowerButton)), Told(N::OrderFailed(error()), None)],
                None,
            ),
            ("escape", vec![started(), Escape(Some(Order::Destroy)), stopped(Stop::Destroyed)], Some(130)),
            (
                "escape as the guest goes",
                vec![started(), Escape(Some(Order::Destroy)), stopped(Stop::Shutdown)],
                Some(130),
            ),
            (
                "stop before the start",
                vec![Button(None), Told(N::Started, Some(Order::Destroy)), stopped(Stop::Destroyed)],
                Some(0),
            ),
            (
                "escape before the start",
                vec![Escape(None), Told(N::Started, Some(Order::Destroy)), stopped(Stop::Destroyed)],
                Some(130),
            ),
            ("stop before a failing start", vec![Button(None), Told(N::StartFailed(error()), None)], Some(0)),
            ("button after the end", vec![started(), stopped(Stop::Shutdown), Button(None)], Some(0)),
        ];
        for (name, steps, want) in cases {
            assert_eq!(walk(steps), want, "{name}");
        }
    }
}
