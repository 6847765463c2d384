//! The threads that talk to libvirt: whatever they wait for, the console and the signals do not.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use crun_qemu::error::{Context, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use nix::sys::eventfd::{EfdFlags, EventFd};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use crate::lifecycle::{VmCommand, VmEvent};
use crate::{button, embedded, events, privileges};

/// The VM, as seen from the main thread; its descriptor is readable while there are events.
pub struct Machine {
    commands: Sender<VmCommand>,
    ends: Sender<VmCommand>,
    events: Receiver<VmEvent>,
    event_fd: Arc<EventFd>,
}

impl Machine {
    /// Starts the domain, in a separate thread.
    pub fn start(config: SupervisorConfig) -> Result<Self> {
        let event_fd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let event_fd = event_fd.context("eventfd")?;
        let ((commands, inbox), (ends, end_box), (events_in, events)) = (channel(), channel(), channel());
        let sender = EventSender { events: events_in, event_fd: event_fd.clone() };
        thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || {
                if let Err(e) = live(&config, [inbox, end_box], &sender) {
                    sender.send(VmEvent::StartFailed(e));
                }
            })
            .context("thread")?;
        Ok(Self { commands, ends, events, event_fd })
    }

    /// Passes on the command, whose result comes as an event. Only for a VM that runs.
    pub fn command(&self, command: VmCommand) {
        // Commands wait while QEMU does not answer, and it must still be possible to end such a QEMU.
        let commands =
            if matches!(command, VmCommand::Destroy | VmCommand::Quit) { &self.ends } else { &self.commands };
        // This fails only if the thread has ended, which is an event too.
        let _ = commands.send(command);
    }

    /// The next event, if any.
    pub fn next(&self) -> Option<VmEvent> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(VmEvent::Lost),
        }
    }

    /// Clears the wake-up; to be called before [`Machine::next`], so that an event sent in between is not missed.
    pub fn clear_wakeup(&self) {
        let _ = self.event_fd.read();
    }
}

impl AsFd for Machine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event_fd.as_fd()
    }
}

/// Sends events to the main thread, and wakes it up when the sending thread ends.
#[derive(Clone)]
struct EventSender {
    events: Sender<VmEvent>,
    event_fd: Arc<EventFd>,
}

impl EventSender {
    fn send(&self, event: VmEvent) {
        let _ = self.events.send(event);
        let _ = self.event_fd.write(1);
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let _ = self.event_fd.write(1);
    }
}

/// Starts the domain and runs libvirt's event loop for ever; returns only if the start fails.
fn live(config: &SupervisorConfig, commands: [Receiver<VmCommand>; 2], sender: &EventSender) -> Result<()> {
    let (_connection, domain) = start(config, sender)?;
    for (commands, name) in commands.into_iter().zip(["commands", "end"]) {
        let (domain, sender) = (domain.clone(), sender.clone());
        let apply = move || {
            for command in commands {
                match carry_out(&domain, command) {
                    Ok(event) => event.into_iter().for_each(|event| sender.send(event)),
                    // QEMU's end is reported by its own event.
                    Err(_) if domain.is_active().is_ok_and(|active| !active) => {}
                    Err(e) => sender.send(VmEvent::CommandFailed(command, embedded::error(e))),
                }
            }
        };
        thread::Builder::new().name(name.into()).spawn(apply).context("thread")?;
    }
    sender.send(VmEvent::Started);
    loop {
        virt::event::event_run_default_impl().map_err(embedded::error)?;
    }
}

fn start(config: &SupervisorConfig, sender: &EventSender) -> Result<(Connect, Domain)> {
    let connection = embedded::connect(Path::new(paths::LIBVIRT))?;
    sender.send(VmEvent::Connected);
    let sender = sender.clone();
    events::watch(&connection, move |event| sender.send(event))?;
    embedded::learn_capabilities(&connection)?;
    // Descriptors can only be passed for a domain that libvirt already knows.
    let domain = connection.define_domain_xml(&config.domain).map_err(embedded::error)?;
    config.files.iter().try_for_each(|file| embedded::hand_over(&domain, file))?;
    embedded::can_copy(&config.files)?;
    if config.low_port { privileges::keep_ports() } else { privileges::bound() }?;
    domain.create().map_err(embedded::error)?;
    Ok((connection, domain))
}

fn carry_out(domain: &Domain, command: VmCommand) -> std::result::Result<Option<VmEvent>, virt::error::Error> {
    match command {
        VmCommand::PowerButton => return button::press(domain).map(|button| Some(VmEvent::Button(button))),
        VmCommand::Destroy => domain.destroy(),
        VmCommand::Quit => domain.destroy_flags(sys::VIR_DOMAIN_DESTROY_GRACEFUL),
        VmCommand::Resume => domain.resume().map(drop),
        VmCommand::Wake => domain.pm_wakeup(0).map(drop),
        VmCommand::Memory(bytes) => domain.set_memory(bytes >> 10),
    }?;
    Ok(None)
}
