//! A stop at any moment, by any signal that means one, and in spite of a QEMU that hangs.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::consoles::sector_run;
use crate::harness::{Form, Podman, rootfs, tiny};
use crate::lifecycle::{Traces, qemu, sector_vm};
use crate::sector::{self, READY};

/// The end of a guest that has no ears for the button and has written nothing.
const NOTHING_TO_LOSE: &str =
    "qemu: stop: the guest listens to no power button yet and has written nothing (the VM ends at once)";

/// From the boot loader to a guest that is up, a stop is heeded and the guest goes down as it should.
#[test]
fn at_any_moment() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    assert_eq!(vm.stop(), 0, "at once");
    let mut presses = 0;
    // The kernel says nothing; it has been loaded some time after the boot loader's line.
    for (said, pause, has_kernel) in [
        ("SeaBIOS", 0, false),
        ("SYSLINUX", 0, false),
        ("SYSLINUX", 2, true),
        ("SYSLINUX", 3, true),
        ("tiny: firmware", 0, true),
        ("TINY READY", 0, true),
    ] {
        let before = vm.logs().matches(said).count();
        vm.podman.ok(&["start", &vm.name]);
        vm.wait_for(said, before + 1);
        sleep(Duration::from_secs(pause));
        assert_eq!(vm.stop(), 0, "at {said} and {pause} s");
        let logs = vm.logs();
        let (down, now) = (logs.matches("reboot: Power down").count(), logs.matches(NOTHING_TO_LOSE).count());
        presses = presses.max(down);
        assert!(has_kernel || now > 0, "at {said}: it waited for a guest that is not there");
    }
    assert!(presses > 0, "no guest was shut down");
}

/// systemd is on its way up, logind not there yet.
#[test]
fn while_systemd_starts() {
    let root = rootfs(Podman::Rootful, "systemd");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    // systemd's first line.
    vm.wait_for("SELinux:", 1);
    vm.podman.ok(&["stop", "-t", "200", &vm.name]);
    assert_eq!(vm.inspect("{{.State.ExitCode}}"), "0");
    assert!(vm.logs().contains("reboot: Power down"), "{}", vm.logs());
}

#[test]
fn by_any_signal_that_means_one() {
    let root = sector::rootfs(Podman::Rootful);
    let vm = sector_vm(root.path());
    for signal in ["USR1", "WINCH", "ALRM"] {
        vm.podman.ok(&["kill", "-s", signal, &vm.name]);
    }
    let mut ready = 1;
    for signal in ["QUIT", "HUP", "PWR", "RTMIN+3"] {
        assert_eq!(vm.inspect("{{.State.Running}}"), "true");
        vm.podman.ok(&["kill", "-s", signal, &vm.name]);
        assert_eq!(vm.wait(), 0, "{signal}");
        ready += 1;
        vm.podman.ok(&["start", &vm.name]);
        vm.wait_for(READY.trim(), ready);
    }
    assert!(vm.logs().contains(NOTHING_TO_LOSE), "{}", vm.logs());
    drop(vm);

    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = sector_run(&what, &["-i", "--stop-signal", "SIGUSR1"]).detached();
    vm.wait_for(READY.trim(), 1);
    assert_eq!(vm.stop(), 0, "--stop-signal");
}

/// A QEMU that does not answer can be ended all the same.
#[test]
fn of_a_qemu_that_hangs() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (vm, mut console) = sector_run(&what, &[]).attached(true);
    console.expect(READY);
    let traces = Traces::of(&vm);
    kill(Pid::from_raw(qemu(&vm)), Signal::SIGSTOP).unwrap();
    vm.podman.ok(&["kill", "-s", "TERM", &vm.name]);
    console.expect("qemu: stop: QEMU does not answer (it hangs, or the host does)");
    console.send("\x1d");
    assert_eq!((console.finish().0, vm.wait()), (Some(130), 130));
    traces.assert_ended();
}
