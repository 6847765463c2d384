//! The container's process: one loop that waits for signals, the console and libvirt's thread.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::exec::{self, liveness};
use crate::status::Mark;
use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::{Judged, SupervisorConfig};
use crun_qemu::handoff::timings::StartTimings;
use crun_qemu::network::fd_store;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getpid;

use crate::balloon::MemoryTargets;
use crate::console::{Console, Streams};
use crate::lifecycle::{Act, Exit, Lifecycle, VmCommand, VmEvent};
use crate::machine::Machine;
use crate::reaper::{Dead, Reaper};
use crate::signals::{Ask, Signals};
use crate::terminal::{Terminal, say};
use crate::virtiofs::Daemons;
use crate::{dhcp, embedded, ipv6, privileges, qemu_log};

/// Runs the VM to its end; returns the exit status.
pub fn run() -> i32 {
    let exit = supervise().unwrap_or_else(Exit::Failed);
    if let Exit::Failed(error) = &exit {
        say(error);
    }
    exit.status()
}

fn supervise() -> Result<Exit> {
    let mut begun = None;
    StartTimings::stamp(&mut begun);
    let mut signals = Signals::block()?;
    adopt_orphans()?;
    let root = Path::new(paths::LIBVIRT);
    embedded::quiet(root);
    privileges::confine()?;
    let config = SupervisorConfig::read()?;
    signals.stop_at(config.stop_signal);
    let stages = StartTimings { supervisor: begun, ..config.stages };
    for warning in &config.warnings {
        say(warning);
    }
    if config.print {
        print(&config.domain)?;
        return Ok(Exit::Clean);
    }
    config.judged.iter().try_for_each(Judged::check)?;
    embedded::prepare(root, Some(Path::new(paths::CAPABILITIES)), &config)?;
    let terminal = Terminal::take_over()?;
    let console = Console::listen(terminal.is_tty(), config.user)?;
    // Descriptors to the end of this process, and no longer: the network namespace may outlive it.
    let mut held = match config.tap {
        Some(_) => fd_store::take(&Path::new(paths::FD_STORE_DIR).join(paths::FD_STORE_SOCKET))?,
        None => None,
    };
    if config.shared && held.is_none() {
        return Err(Error::new("network", "the descriptors that keep it alive are missing"));
    }
    let router = held.as_mut().and_then(|held| held.router.take());
    let resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let dhcp = config.tap.as_deref().map(|tap| dhcp::Server::bind(tap, &resolv_conf)).transpose()?;
    let ipv6 = config.tap.as_deref().zip(router).map(|(tap, router)| ipv6::Service::start(tap, router)).transpose()?;
    let daemons = Daemons::start(&config.virtiofs, config.user)?;
    let memory_targets = MemoryTargets::of(Path::new(paths::MEMORY));
    // A user can have so many watches and no more; the VM runs without.
    let memory_targets =
        memory_targets.inspect_err(|e| say(e.clone().hint("podman update cannot change the memory"))).ok();
    let alive = liveness::hold_vm_lock(Path::new(paths::ALIVE))?;
    let (reaper, life) = (Reaper::of(daemons.pids()), Lifecycle::new());
    let exit = Machine::start(config).and_then(|machine| {
        let (reasons, mark) = (Vec::new(), None);
        Supervisor {
            signals,
            console,
            dhcp,
            ipv6,
            daemons,
            machine,
            memory_targets,
            reaper,
            life,
            reasons,
            stages,
            mark,
        }
        .run()
    });
    liveness::release(alive, Path::new(paths::EXECS));
    exit
}

/// Prints the domain in place of running it.
fn print(domain: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(domain.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

/// Becomes the subreaper: in a foreign PID namespace, QEMU would otherwise become another process's child when libvirt
/// detaches it.
fn adopt_orphans() -> Result<()> {
    if getpid().as_raw() == 1 { Ok(()) } else { nix::sys::prctl::set_child_subreaper(true).context("subreaper") }
}

struct Supervisor {
    signals: Signals,
    console: Console,
    dhcp: Option<dhcp::Server>,
    ipv6: Option<ipv6::Service>,
    daemons: Daemons,
    machine: Machine,
    memory_targets: Option<MemoryTargets<'static>>,
    reaper: Reaper,
    life: Lifecycle,
    /// Possible reasons for a failure: processes that were killed by others.
    reasons: Vec<String>,
    /// Times of the VM's start.
    stages: StartTimings,
    /// State of the VM.
    mark: Option<Mark>,
}

impl Supervisor {
    fn run(mut self) -> Result<Exit> {
        let streams = Streams::new();
        loop {
            let packets = self.wait(&streams)?;
            self.hear_signals()?;
            let dead = self.reaper.sweep();
            dead.into_iter().for_each(|dead| self.on_child_exit(dead));
            self.drain_events();
            let acts = self.life.turn(Instant::now());
            self.act(acts);
            if let Some(target) = self.memory_targets.as_mut().and_then(MemoryTargets::next) {
                self.machine.command(VmCommand::Memory(target));
            }
            if packets {
                self.serve_network();
            }
            if self.console.turn() {
                let acts = self.life.escape();
                self.act(acts);
            }
            self.mark_state();
            if self.stages.console.is_none() && self.console.has_spoken() {
                StartTimings::stamp(&mut self.stages.console);
                self.leave_mark();
            }
            if let Some(exit) = self.life.exit().cloned() {
                self.console.hang_up();
                if self.console.is_drained() {
                    self.daemons.end();
                    return Ok(self.with_reason(exit));
                }
            }
        }
    }

    fn serve_network(&mut self) {
        if let Some(dhcp) = &mut self.dhcp {
            // A packet that could not be answered is asked again by the guest.
            let _ = dhcp.answer_all();
        }
        if let Some(ipv6) = &mut self.ipv6 {
            ipv6.turn(Instant::now());
        }
    }

    /// Waits until there is something to do; returns whether the guest's network is part of it.
    fn wait(&self, streams: &Streams) -> Result<bool> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.machine.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            self.memory_targets.as_ref().map(|memory_targets| PollFd::new(memory_targets.as_fd(), PollFlags::POLLIN)),
        );
        let others = fds.len();
        fds.extend(self.dhcp.as_ref().map(|dhcp| PollFd::new(dhcp.as_fd(), PollFlags::POLLIN)));
        let of_ipv6 = self.ipv6.iter().flat_map(ipv6::Service::descriptors);
        fds.extend(of_ipv6.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let network = others..fds.len();
        self.console.interests(streams, |fd| fds.push(fd));
        let ipv6_due = self.ipv6.as_ref().and_then(ipv6::Service::deadline);
        let due = self.life.deadline().into_iter().chain(ipv6_due).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up, so that it is not woken a moment too early again and again.
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        waited(poll(&mut fds, timeout))?;
        let came = fds[network].iter().any(|fd| fd.any().unwrap_or(true));
        Ok(came || ipv6_due.is_some_and(|due| due <= Instant::now()))
    }

    fn hear_signals(&mut self) -> Result<()> {
        while let Some(ask) = self.signals.next()? {
            if ask == Ask::Stop {
                let acts = self.life.stop(Instant::now());
                self.act(acts);
            }
        }
        Ok(())
    }

    fn drain_events(&mut self) {
        self.machine.clear_wakeup();
        while self.life.exit().is_none()
            && let Some(news) = self.machine.next()
        {
            match news {
                VmEvent::Rebooted => exec::forget(Path::new(paths::SSH_DIR)),
                VmEvent::Connected => StartTimings::stamp(&mut self.stages.libvirt),
                VmEvent::Started => {
                    StartTimings::stamp(&mut self.stages.qemu);
                    self.mark = Some(Mark::running());
                    self.leave_mark();
                }
                _ => {}
            }
            let acts = self.life.news(news, Instant::now());
            self.act(acts);
        }
    }

    fn on_child_exit(&mut self, dead: Dead) {
        match dead {
            Dead::Killed(k) => self.reasons.push(format!("{} was killed by {}", k.program, k.signal)),
            Dead::Own(pid, status) => {
                let Some(error) = self.daemons.exit_error(pid, &status) else { return };
                self.reasons.push(error.why().to_owned());
                if self.life.exit().is_none() {
                    say(error.hint("the guest is without it until the container is restarted"));
                }
            }
        }
    }

    /// Leaves for others how far the VM is, if that is news; that it cannot be left does not matter to the VM.
    fn mark_state(&mut self) {
        let (state, reason) = self.life.state();
        let Some(mark) = self.mark.as_mut().filter(|mark| (mark.state, &mark.reason) != (state, &reason)) else {
            return;
        };
        (mark.state, mark.reason) = (state, reason);
        self.leave_mark();
    }

    fn leave_mark(&self) {
        if let Some(mark) = &self.mark {
            let _ = Mark { stages: self.stages, ..mark.clone() }.leave(Path::new(paths::STATUS));
        }
    }

    fn act(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::VmCommand(command) => self.machine.command(command),
                Act::Say(error) => say(error),
            }
        }
    }

    /// Adds what is known about QEMU's end to the failure of a VM that ran.
    fn with_reason(&self, exit: Exit) -> Exit {
        let last_lines = qemu_log::last_lines(Path::new(paths::LIBVIRT));
        let reasons: Vec<String> = self.reasons.iter().cloned().chain(last_lines).collect();
        match exit {
            Exit::Failed(error) => {
                // libvirt quotes QEMU's log itself when the start fails.
                let said = error.to_string();
                let new: Vec<String> = reasons.into_iter().filter(|r| !said.contains(r.as_str())).collect();
                Exit::Failed(if new.is_empty() { error } else { error.hint(new.join("; ")) })
            }
            other => other,
        }
    }
}

fn waited(result: nix::Result<i32>) -> Result<()> {
    match result {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(Error::new("poll", e.to_string())),
    }
}
