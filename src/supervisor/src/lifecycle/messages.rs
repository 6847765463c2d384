//! Events from libvirt about the VM, and commands to libvirt.

use crun_qemu::error::Error;

/// A command to libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmCommand {
    /// Press the ACPI power button, if the guest listens to it.
    PowerButton,
    /// End the VM at once.
    Destroy,
    /// End QEMU gracefully, so that everything the guest has written is in the files.
    Quit,
    /// Let the virtual CPUs go on.
    Resume,
    /// Wake a guest that has put itself to sleep.
    Wake,
    /// Have the guest make do with so many bytes of memory.
    Memory(u64),
}

/// An event of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmEvent {
    /// libvirt is ready.
    Connected,
    /// The virtual CPUs run.
    Started,
    /// The VM could not be started.
    StartFailed(Error),
    /// QEMU shuts down; `by_guest` is false when QEMU itself was told to end.
    ShuttingDown {
        /// Whether the guest asked for it.
        by_guest: bool,
    },
    /// The guest, or its firmware, starts over.
    Rebooted,
    /// Result of pressing the button.
    Button(Button),
    /// A request to a disk failed on the host.
    DiskFailed(DiskFailure),
    /// The virtual CPUs were stopped, because of a disk or for a reason that only QEMU knows.
    Paused {
        /// A disk's failure is the reason.
        by_disk: bool,
    },
    /// The virtual CPUs go on.
    GoesOn,
    /// The guest has put the machine to sleep.
    Asleep,
    /// An order could not be carried out.
    CommandFailed(VmCommand, Error),
    /// QEMU has ended.
    Stopped(Stop),
    /// The thread that runs libvirt has ended.
    Lost,
}

/// Result of pressing the power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// The guest's kernel has it. Whether anything in the guest acts on it is not known.
    Pressed,
    /// The guest's kernel does not listen to it (yet): it was not pressed.
    Unheard,
    /// As [`Unheard`](Self::Unheard), and no disk has been written to since QEMU's start.
    NothingToLose,
}

/// A request to a disk that failed on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFailure {
    /// The disk's name in the domain.
    pub disk: String,
    /// The reason is a lack of space.
    pub full: bool,
    /// The VM is paused until the request can be repeated; otherwise the guest got the error.
    pub pauses: bool,
}

/// libvirt's reasons for the end of a VM.
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
