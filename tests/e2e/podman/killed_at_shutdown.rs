//! Processes that are killed while the guest shuts down.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Form, Podman, Traces, Vm, children, directory, eventually, kill_process, qemu, run, start};

/// The guest's shutdown takes some seconds from now on.
const SLOW_SHUTDOWN: &str = "sed -i '2a echo GOES DOWN > /dev/console; sleep 4' /etc/acpi/PWRF/00000080";

/// Stops a VM, kills the process that `victim` finds while the guest shuts down, and returns the exit status.
fn stop_and_kill(vm: &Vm, victim: impl Fn(&Vm) -> i32) -> i32 {
    vm.guest_sh(SLOW_SHUTDOWN);
    let before = vm.logs().matches("GOES DOWN").count();
    let mut stop = vm.podman.command();
    stop.args(["stop", "-t", "60", &vm.name]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut stop = stop.spawn().unwrap();
    // podman says "stopping" now, at which waiting for the console gives up.
    eventually("the guest shuts down", || vm.logs().matches("GOES DOWN").count() > before);
    kill_process(victim(vm), Signal::SIGKILL);
    stop.wait().unwrap();
    vm.inspect("{{.State.ExitCode}}").parse().unwrap()
}

fn virtiofsd(vm: &Vm) -> i32 {
    let all = children(vm.pid());
    all.iter().find(|child| child.1.starts_with("virtiofsd")).unwrap_or_else(|| panic!("{all:?}")).0
}

#[test]
fn kills_during_shutdown_leave_a_true_status_and_the_disk() {
    let shared = directory();
    let volume = format!("{}:/srv", shared.path().display());
    let (vm, root) = start(Podman::Rootful, Form::BuildTree, &["-v", &volume], &[]);
    let image = run("sha256sum", &[&root.at("disk.qcow2")]);
    vm.write_marker("precious");
    type Case<'a> = (&'a str, fn(&Vm) -> i32, i32, &'a str);
    let table: [Case; 3] = [
        ("QEMU", qemu, 1, "qemu: the VM: QEMU ended unexpectedly (qemu-system-x86 was killed by SIGKILL)"),
        ("supervisor", Vm::pid, 137, ""),
        ("virtiofsd", virtiofsd, 0, "it was killed by SIGKILL"),
    ];
    for (name, victim, status, reason) in table {
        let (traces, reported) = (Traces::of(&vm), vm.logs().matches(reason).count());
        assert_eq!(stop_and_kill(&vm, victim), status, "{name}");
        traces.assert_ended();
        let logs = vm.logs();
        assert!(reason.is_empty() || logs.matches(reason).count() == reported + 1, "{name}:\n{logs}");
        vm.start();
        assert_eq!(vm.marker(), "precious", "{name}");
    }
    // The guest shuts down; only podman does not learn about it.
    let traces = Traces::of(&vm);
    stop_and_kill(&vm, |vm| vm.inspect("{{.State.ConmonPid}}").parse().unwrap());
    traces.assert_ended();
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    assert_eq!(run("sha256sum", &[&root.at("disk.qcow2")]), image);
}
