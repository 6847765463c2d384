//! The guest's console on the user's terminal, on pipes and on neither.

use std::thread;
use std::time::{Duration, Instant};

use crate::console::Console;
use crate::harness::{Form, PATIENCE, Podman, Run, Vm, rootfs, text, tiny};
use crate::sector::{self, CAT, ECHO, OFF, PRINT, READY, pattern};

/// `ctrl-]`.
const ESCAPE: &str = "\x1d";
/// `ctrl-p` and `ctrl-q`.
const DETACH: [&str; 2] = ["\x10", "\x11"];

/// A foreground run of the one-sector guest.
pub fn sector_run<'a>(what: &'a [&'a str], podman_options: &'a [&'a str]) -> Run<'a> {
    Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what, options: &[] }
}

/// Types a command whose output is unlike itself, so that the guest's echo is not taken for it.
fn answers(console: &mut Console, word: &str) {
    console.send(format!("echo {word}$((40 + 2))\r"));
    console.expect(&format!("{word}42"));
}

fn attach(vm: &Vm) -> Console {
    let mut command = vm.podman.command();
    command.args(["attach", &vm.name]);
    Console::on_terminal(command)
}

/// Waits until the terminal is raw: keys typed before podman's own client listens to them mean something else.
fn until_raw(console: &Console) {
    let deadline = Instant::now() + PATIENCE;
    while !console.is_raw() {
        assert!(Instant::now() < deadline, "the terminal never got raw");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The whole life of a terminal: typed commands, detach, attach, `ctrl-]`, and power-off from within.
fn terminal(podman: Podman, form: Form) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (vm, mut console) = tiny(podman, form, &what, &[]).attached(true);
    let boot = console.expect("TINY READY");
    assert!(boot.contains("SeaBIOS"), "the firmware's first lines are missing:\n{boot}");
    assert!(console.is_raw());
    answers(&mut console, "typed");
    for key in DETACH {
        console.send(key);
        // podman knows the keys only if each is read alone.
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(console.finish().0, Some(0), "detach");

    let mut console = attach(&vm);
    until_raw(&console);
    answers(&mut console, "attached");
    console.send(ESCAPE);
    // The status of `podman attach` itself is podman's own affair.
    console.finish();
    assert_eq!(vm.wait(), 130, "ctrl-] while attached");

    let mut command = podman.command();
    command.args(["start", "-ai", &vm.name]);
    let mut console = Console::on_terminal(command);
    console.expect("TINY READY");
    answers(&mut console, "again");
    console.send("echo TINY POWEROFF > /dev/console; poweroff -f\r");
    let (status, said) = console.finish();
    assert_eq!(status, Some(0));
    assert!(text(&said).contains("reboot: Power down"), "the guest's last line is missing:\n{}", text(&said));
}

#[test]
fn a_terminal() {
    terminal(Podman::Rootful, Form::BuildTree);
}

#[test]
fn a_terminal_rootless() {
    terminal(Podman::Rootless, Form::Executable);
}

/// `ctrl-]` in the foreground of the first run, in the plugin's form.
#[test]
fn escape() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let run = Run { form: Form::Plugin, ..sector_run(&what, &[]) };
    let (vm, mut console) = run.attached(true);
    console.expect(READY);
    console.send("xyz");
    console.expect("xyz");
    console.send(ESCAPE);
    assert_eq!((console.finish().0, vm.wait()), (Some(130), 130));
}

/// The terminal is the user's again (`finish` looks) when the container is taken away from under it.
#[test]
fn removed_from_elsewhere() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (vm, mut console) = sector_run(&what, &[]).attached(true);
    console.expect(READY);
    assert!(console.is_raw());
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    let (status, _) = console.finish();
    assert_ne!(status, Some(0));
}

/// Without `-i` and `-t` the console can be seen from its first line to its last.
#[test]
fn logs_only() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let name = crate::harness::unique(crate::harness::LABEL);
    let run = sector_run(&what, &[]);
    let vm = Vm { podman: run.podman, name };
    let mut command = run.podman.command();
    command.args(run.args(&vm.name));
    let mut console = Console::on_pipes(command);
    console.expect(READY);
    // Input is not taken: the guest would power off.
    console.send(OFF);
    console.close_input();
    assert!(vm.wait_for(READY.trim(), 1).contains("SeaBIOS"), "{}", vm.logs());
    thread::sleep(Duration::from_millis(500));
    assert_eq!(vm.inspect("{{.State.Running}}"), "true", "stdin reached the guest");
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(console.finish().0, Some(137));
}

/// Megabytes printed in [`bytes`]: many times what all buffers on the way hold.
fn megabytes() -> usize {
    std::env::var("CRUN_QEMU_TEST_MEGABYTES").map_or(8, |n| n.parse().unwrap())
}

/// Every byte in both directions through pipes, and nothing but the guest's own end ends the VM.
#[test]
fn bytes() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (vm, mut console) = sector_run(&what, &["--log-driver", "none"]).attached(false);
    let boot = console.expect(READY);
    assert!(boot.contains("SeaBIOS"), "the firmware's first lines are missing:\n{boot}");
    console.send(ESCAPE);
    let start = console.expect(&format!("{READY}{ESCAPE}")).len();

    let printed = [&pattern(), READY.as_bytes()].concat();
    let echoed = [&printed[..ECHO], READY.as_bytes()].concat();
    let mut want = Vec::new();
    for _ in 0..megabytes().min(16) {
        want.extend_from_slice(&echoed);
        console.send(CAT);
        console.send(&printed[..ECHO]);
        console.expect_bytes(start + want.len());
    }
    for _ in 0..megabytes() {
        want.extend_from_slice(&printed);
        console.send(PRINT);
        console.expect_bytes(start + want.len());
    }
    console.send(OFF);
    let (status, said) = console.finish();
    assert_eq!(status, Some(0));
    let differs = said[start..].iter().zip(&want).position(|(a, b)| a != b);
    assert_eq!((differs, said.len() - start), (None, want.len()), "{:?}", vm.name);
}

/// The end of stdin is not the end of the VM.
#[test]
fn end_of_input() {
    let root = sector::rootfs(Podman::Rootful);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (vm, mut console) = sector_run(&what, &[]).attached(false);
    console.expect(READY);
    console.send("last");
    console.close_input();
    console.expect("last");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(vm.inspect("{{.State.Running}}"), "true", "the end of stdin ended the VM");
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(console.finish().0, Some(137));
}
