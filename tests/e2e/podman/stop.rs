//! Stopping a VM: at any moment, by any stop signal, and with a QEMU that hangs.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::sector::READY;
use crate::harness::{Form, Podman, Traces, kill_process, qemu, rootfs, sector, start, tiny};

/// Reason to end a guest that does not handle the power button yet and has written nothing.
const NOTHING_TO_LOSE: &str =
    "qemu: stop: the guest listens to no power button yet and has written nothing (the VM ends at once)";

/// From the boot loader to a guest that is up; once its kernel runs the guest shuts down.
#[test]
fn stop_at_any_moment_ends_with_status_0() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &[], &[]);
    assert_eq!(vm.stop(), 0, "at once");
    let mut presses = 0;
    // The kernel prints nothing; it starts some time after the boot loader's line.
    for (line, pause, has_kernel) in [
        ("SeaBIOS", 0, false),
        ("SYSLINUX", 0, false),
        ("SYSLINUX", 2, true),
        ("SYSLINUX", 3, true),
        ("tiny: firmware", 0, true),
        ("TINY READY", 0, true),
    ] {
        let before = vm.logs().matches(line).count();
        vm.start();
        vm.wait_for(line, before + 1);
        sleep(Duration::from_secs(pause));
        assert_eq!(vm.stop(), 0, "at {line} and {pause} s");
        let logs = vm.logs();
        let (down, now) = (logs.matches("reboot: Power down").count(), logs.matches(NOTHING_TO_LOSE).count());
        presses = presses.max(down);
        assert!(has_kernel || now > 0, "at {line}: the stop waited for a guest without a kernel");
    }
    assert!(presses > 0, "no guest was shut down");
}

/// logind, which handles the power button, does not run yet.
#[test]
fn stop_during_the_boot_of_systemd_shuts_down() {
    let root = rootfs(Podman::Rootful, "systemd");
    let what = root.as_root();
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    // systemd's first line.
    vm.wait_for("SELinux:", 1);
    vm.podman.ok(&["stop", "-t", "200", &vm.name]);
    assert_eq!(vm.inspect("{{.State.ExitCode}}"), "0");
    assert!(vm.logs().contains("reboot: Power down"), "{}", vm.logs());
}

#[test]
fn every_stop_signal_stops_the_vm() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector::start(&root);
    for signal in ["USR1", "WINCH", "ALRM"] {
        vm.podman.ok(&["kill", "-s", signal, &vm.name]);
    }
    let mut ready = 1;
    for signal in ["QUIT", "HUP", "PWR", "RTMIN+3"] {
        assert_eq!(vm.inspect("{{.State.Running}}"), "true");
        vm.podman.ok(&["kill", "-s", signal, &vm.name]);
        assert_eq!(vm.wait(), 0, "{signal}");
        ready += 1;
        vm.start();
        vm.wait_for(READY.trim(), ready);
    }
    assert!(vm.logs().contains(NOTHING_TO_LOSE), "{}", vm.logs());
    drop(vm);

    let what = root.as_root();
    let vm = sector::run(&what, &["-i", "--stop-signal", "SIGUSR1"]).detached();
    vm.wait_for(READY.trim(), 1);
    assert_eq!(vm.stop(), 0, "--stop-signal");
}

#[test]
fn hanging_qemu_can_be_ended() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let (vm, mut console) = sector::run(&what, &[]).attached(true);
    console.expect(READY);
    let traces = Traces::of(&vm);
    kill_process(qemu(&vm), Signal::SIGSTOP);
    vm.podman.ok(&["kill", "-s", "TERM", &vm.name]);
    console.expect("qemu: stop: QEMU does not answer (it hangs, or the host does)");
    console.send("\x1d");
    assert_eq!((console.finish().0, vm.wait()), (Some(130), 130));
    traces.assert_ended();
}
