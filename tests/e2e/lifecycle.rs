//! How a VM ends, what that leaves behind, and which processes it is.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::console::Console;
use crate::consoles::sector_run;
use crate::harness::{Form, PATIENCE, Podman, Vm, rootfs, run, tiny};
use crate::sector::{self, DEAF, OFF, PANIC, READY, RESET};

/// Process id, parent's id, name and state of every process.
fn processes() -> Vec<(i32, i32, String, char)> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(" (")?;
        // The name may hold anything, so that its end is the last parenthesis.
        let (name, rest) = rest.rsplit_once(") ")?;
        let (state, rest) = rest.split_once(' ')?;
        let parent = rest.split(' ').next()?.parse().ok()?;
        Some((pid.parse().ok()?, parent, name.to_owned(), state.chars().next()?))
    })
    .collect()
}

pub fn children(parent: i32) -> Vec<(i32, String, char)> {
    processes().into_iter().filter(|p| p.1 == parent).map(|(pid, _, name, state)| (pid, name, state)).collect()
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE / 8;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The VM's QEMU.
#[track_caller]
pub fn qemu(vm: &Vm) -> i32 {
    let all = children(vm.pid());
    all.iter().find(|c| c.1.starts_with("qemu-system")).unwrap_or_else(|| panic!("no QEMU in {all:?}")).0
}

/// What of a running VM is to be gone when it has ended.
pub struct Traces {
    pids: [i32; 2],
    network: String,
    id: String,
}

impl Traces {
    pub fn of(vm: &Vm) -> Self {
        let network = vm.inspect("{{.NetworkSettings.SandboxKey}}");
        assert!(Path::new(&network).exists(), "{network}");
        Self { pids: [vm.pid(), qemu(vm)], network, id: vm.inspect("{{.Id}}") }
    }

    pub fn assert_ended(&self) {
        eventually("its processes are gone", || processes().iter().all(|p| !self.pids.contains(&p.0) || p.3 == 'Z'));
        eventually("its network namespace is gone", || !Path::new(&self.network).exists());
        eventually("its mounts are gone", || !fs::read_to_string("/proc/mounts").unwrap().contains(&self.id));
    }

    pub fn assert_removed(&self) {
        self.assert_ended();
        let left = run(
            "find",
            &["/var/lib/containers", "/run", "-xdev", "-ignore_readdir_race", "-name", &format!("*{}*", self.id)],
        );
        assert_eq!(left, "", "left behind");
    }
}

/// The one-sector guest, booted in the background.
#[track_caller]
pub fn sector_vm(root: &Path) -> Vm {
    let what = ["--rootfs", root.to_str().unwrap()];
    let vm = sector_run(&what, &["-i"]).detached();
    vm.wait_for(READY.trim(), 1);
    vm
}

/// Types to a VM that was started with `-i` in the background.
pub fn tell(vm: &Vm, letter: &str) -> Console {
    let mut command = vm.podman.command();
    command.args(["attach", "--sig-proxy=false", &vm.name]);
    let mut console = Console::on_pipes(command);
    console.send(letter);
    console
}

/// Waits until the tiny guest heeds the power button, which is after it says that it is ready.
#[track_caller]
fn listens(vm: &Vm) {
    eventually("acpid runs", || vm.exec(&["root", "pidof", "acpid"]).status.success());
}

#[test]
fn ends_of_a_guest_that_is_deaf_to_the_power_button() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector_vm(root.path());
    let traces = Traces::of(&vm);
    let _console = tell(&vm, DEAF);
    vm.wait_for(READY.trim(), 2);
    vm.podman.ok(&["stop", "-t", "2", &vm.name]);
    assert_eq!(vm.inspect("{{.State.ExitCode}}"), "137");
    traces.assert_ended();

    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for(READY.trim(), 3);
    let traces = Traces::of(&vm);
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(vm.wait(), 137);
    traces.assert_ended();

    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for(READY.trim(), 4);
    let traces = Traces::of(&vm);
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_removed();
}

#[test]
fn ends_of_a_vm_by_itself() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector_vm(root.path());
    let pid = vm.pid();
    // podman closes the VM's stdin with the first client that goes.
    let mut console = tell(&vm, RESET);
    vm.wait_for(READY.trim(), 2);
    assert_eq!(vm.pid(), pid, "a reset is the guest's own affair");
    console.send(PANIC);
    assert_eq!(vm.wait(), 1);
    assert!(vm.logs().lines().any(|line| line == "qemu: the VM: the guest's kernel panicked"), "{}", vm.logs());
    drop(console);

    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for(READY.trim(), 3);
    let _console = tell(&vm, OFF);
    assert_eq!(vm.wait(), 0);
}

#[test]
fn qemu_is_killed() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    kill(Pid::from_raw(qemu(&vm)), Signal::SIGKILL).unwrap();
    assert_eq!(vm.wait(), 1);
    let logs = vm.logs();
    assert!(logs.contains("qemu: the VM: QEMU ended unexpectedly") && logs.contains("killed by SIGKILL"), "{logs}");
}

#[test]
fn a_linux_guest() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    let pid = vm.pid();
    let names = |parent| children(parent).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(pid), ["qemu-system-x86"]);
    assert!(children(qemu(&vm)).is_empty());
    let conmon: i32 = vm.inspect("{{.State.ConmonPid}}").parse().unwrap();
    assert_eq!(names(conmon), ["crun-qemu-init"]);

    vm.exec_ok(&["-", "sh", "-c", "sleep 1 & sleep 2 & exit 0"]);
    eventually("orphans are reaped", || names(pid) == ["qemu-system-x86"]);

    vm.podman.ok(&["pause", &vm.name]);
    assert_eq!(vm.inspect("{{.State.Status}}"), "paused");
    vm.podman.ok(&["unpause", &vm.name]);
    assert_eq!(vm.exec_ok(&["root", "echo", "awake"]), "awake");

    vm.exec(&["root", "reboot"]);
    vm.wait_for("TINY READY", 2);
    // No exec can ask whether acpid runs: this guest makes itself a new host key at each boot, which ssh refuses.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(vm.pid(), pid, "a reboot is the guest's own affair");

    vm.podman.ok(&["restart", "-t", "60", &vm.name]);
    let logs = vm.wait_for("TINY READY", 3);
    assert!(logs.contains("TINY POWEROFF"), "the button was not pressed");
    assert_ne!(vm.pid(), pid);

    vm.exec(&["root", "poweroff"]);
    assert_eq!(vm.wait(), 0);

    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 4);
    vm.exec(&["root", "sh", "-c", "echo c > /proc/sysrq-trigger"]);
    assert_eq!(vm.wait(), 1);
    assert!(vm.logs().lines().any(|line| line == "qemu: the VM: the guest's kernel panicked"), "{}", vm.logs());
}

/// `podman start -a` shows the console of a stopped VM's next life, and `podman stop` ends it with 0.
#[test]
fn started_again_attached() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    listens(&vm);
    assert_eq!(vm.stop(), 0);
    let mut command = vm.podman.command();
    command.args(["start", "-a", &vm.name]);
    let mut console = Console::on_pipes(command);
    let boot = console.expect("TINY READY");
    assert!(boot.contains("SeaBIOS"), "{boot}");
    listens(&vm);
    assert_eq!(vm.stop(), 0);
    let (status, said) = console.finish();
    assert_eq!(status, Some(0));
    assert!(crate::harness::text(&said).contains("reboot: Power down"));
}
