//! The end of VMs, what it leaves behind, and the VM's processes.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::sector::{IGNORE_BUTTON, OFF, PANIC, READY, RESET};
use crate::harness::{
    Console, Form, Podman, Traces, Vm, children, eventually, kill_process, qemu, sector, start, text,
};

/// Waits until the tiny guest handles the power button, some time after it reports that it is ready.
#[track_caller]
fn wait_for_acpid(vm: &Vm) {
    eventually("acpid runs", || vm.exec(&["root", "pidof", "acpid"]).status.success());
}

#[test]
fn guest_that_ignores_the_power_button_is_killed() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector::start(&root);
    let traces = Traces::of(&vm);
    let _console = sector::send(&vm, IGNORE_BUTTON);
    vm.wait_for(READY.trim(), 2);
    vm.podman.ok(&["stop", "-t", "2", &vm.name]);
    assert_eq!(vm.inspect("{{.State.ExitCode}}"), "137");
    traces.assert_ended();

    vm.start();
    vm.wait_for(READY.trim(), 3);
    let traces = Traces::of(&vm);
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(vm.wait(), 137);
    traces.assert_ended();

    vm.start();
    vm.wait_for(READY.trim(), 4);
    let traces = Traces::of(&vm);
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_removed();
}

#[test]
fn reset_panic_and_power_off_have_their_exit_statuses() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector::start(&root);
    let pid = vm.pid();
    // podman closes the VM's stdin when the first client detaches.
    let mut console = sector::send(&vm, RESET);
    vm.wait_for(READY.trim(), 2);
    assert_eq!(vm.pid(), pid, "a reset ended the VM");
    console.send(PANIC);
    assert_eq!(vm.wait(), 1);
    assert!(vm.logs().lines().any(|line| line == "qemu: the VM: the guest's kernel panicked"), "{}", vm.logs());
    drop(console);

    vm.start();
    vm.wait_for(READY.trim(), 3);
    let _console = sector::send(&vm, OFF);
    assert_eq!(vm.wait(), 0);
}

#[test]
fn killed_qemu_is_reported() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &[], &[]);
    vm.wait_for("TINY READY", 1);
    kill_process(qemu(&vm), Signal::SIGKILL);
    assert_eq!(vm.wait(), 1);
    let logs = vm.logs();
    assert!(logs.contains("qemu: the VM: QEMU ended unexpectedly") && logs.contains("killed by SIGKILL"), "{logs}");
}

#[test]
fn linux_guest_pauses_reboots_stops_and_panics() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &[], &[]);
    vm.wait_for("TINY READY", 1);
    let pid = vm.pid();
    let names = |parent| children(parent).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(pid), ["qemu-system-x86"]);
    assert!(children(qemu(&vm)).is_empty());
    let conmon: i32 = vm.inspect("{{.State.ConmonPid}}").parse().unwrap();
    assert_eq!(names(conmon), ["crun-qemu-init"]);

    vm.container_sh("sleep 1 & sleep 2 & exit 0");
    eventually("orphans are reaped", || names(pid) == ["qemu-system-x86"]);

    vm.podman.ok(&["pause", &vm.name]);
    assert_eq!(vm.inspect("{{.State.Status}}"), "paused");
    vm.podman.ok(&["unpause", &vm.name]);
    assert_eq!(vm.exec_ok(&["root", "echo", "awake"]), "awake");

    vm.exec(&["root", "reboot"]);
    vm.wait_for("TINY READY", 2);
    // An exec cannot check for acpid: this guest creates a new host key at each boot, which ssh refuses.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(vm.pid(), pid, "a reboot ended the VM");

    vm.podman.ok(&["restart", "-t", "60", &vm.name]);
    let logs = vm.wait_for("TINY READY", 3);
    assert!(logs.contains("TINY POWEROFF"), "the power button was not pressed");
    assert_ne!(vm.pid(), pid);

    vm.exec(&["root", "poweroff"]);
    assert_eq!(vm.wait(), 0);

    vm.start();
    vm.wait_for("TINY READY", 4);
    vm.exec(&["root", "sh", "-c", "echo c > /proc/sysrq-trigger"]);
    assert_eq!(vm.wait(), 1);
    assert!(vm.logs().lines().any(|line| line == "qemu: the VM: the guest's kernel panicked"), "{}", vm.logs());
}

/// `podman stop` ends it with status 0.
#[test]
fn attached_start_prints_the_console() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &[], &[]);
    vm.wait_for("TINY READY", 1);
    wait_for_acpid(&vm);
    assert_eq!(vm.stop(), 0);
    let mut command = vm.podman.command();
    command.args(["start", "-a", &vm.name]);
    let mut console = Console::on_pipes(command);
    let boot = console.expect("TINY READY");
    assert!(boot.contains("SeaBIOS"), "{boot}");
    wait_for_acpid(&vm);
    assert_eq!(vm.stop(), 0);
    let (status, output) = console.finish();
    assert_eq!(status, Some(0));
    assert!(text(&output).contains("reboot: Power down"));
}
