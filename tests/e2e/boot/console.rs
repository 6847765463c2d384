//! The guest's console on the user's terminal, on pipes, and without stdin.

use std::thread;
use std::time::Duration;

use crate::harness::sector::{CAT, ECHO, OFF, PRINT, READY, pattern};
use crate::harness::{
    Console, Form, LABEL, PATIENCE, Podman, Run, Vm, eventually_within, rootfs, sector, text, tiny, unique,
};

/// `ctrl-]`.
const ESCAPE: &str = "\x1d";
/// `ctrl-p` and `ctrl-q`.
const DETACH: [&str; 2] = ["\x10", "\x11"];

/// Types a command whose output differs from its text, so that the guest's echo does not count as output.
fn answers(console: &mut Console, word: &str) {
    console.send(format!("echo {word}$((40 + 2))\r"));
    console.expect(&format!("{word}42"));
}

fn attach(vm: &Vm) -> Console {
    let mut command = vm.podman.command();
    command.args(["attach", &vm.name]);
    Console::on_terminal(command)
}

/// Waits until the terminal is raw: podman's client does not handle keys that were typed before.
fn until_raw(console: &Console) {
    eventually_within(PATIENCE, "the terminal is raw", || console.is_raw());
}

/// Types commands, detaches, attaches, ends the VM with `ctrl-]`, starts it again, and powers the guest off.
fn terminal_works(podman: Podman, form: Form) {
    let root = rootfs(podman, "tiny");
    let what = root.as_root();
    let (vm, mut console) = tiny(podman, form, &what, &[]).attached(true);
    let boot = console.expect("TINY READY");
    assert!(boot.contains("SeaBIOS"), "the firmware's first lines are missing:\n{boot}");
    assert!(console.is_raw());
    answers(&mut console, "typed");
    for key in DETACH {
        console.send(key);
        // podman recognises the keys only if it reads each of them alone.
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(console.finish().0, Some(0), "detach");

    let mut console = attach(&vm);
    until_raw(&console);
    answers(&mut console, "attached");
    console.send(ESCAPE);
    // The exit status of `podman attach` itself does not come from the runtime.
    console.finish();
    assert_eq!(vm.wait(), 130, "ctrl-] while attached");

    let mut command = podman.command();
    command.args(["start", "-ai", &vm.name]);
    let mut console = Console::on_terminal(command);
    console.expect("TINY READY");
    answers(&mut console, "again");
    console.send("echo TINY POWEROFF > /dev/console; poweroff -f\r");
    let (status, output) = console.finish();
    assert_eq!(status, Some(0));
    assert!(text(&output).contains("reboot: Power down"), "the guest's last line is missing:\n{}", text(&output));
}

#[test]
fn terminal_of_the_runtime_works() {
    terminal_works(Podman::Rootful, Form::BuildTree);
}

#[test]
fn terminal_works_rootless() {
    terminal_works(Podman::Rootless, Form::Executable);
}

/// Also in the foreground of the first run.
#[test]
fn escape_key_ends_a_vm_of_the_plugin() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let run = Run { form: Form::Plugin, ..sector::run(&what, &[]) };
    let (vm, mut console) = run.attached(true);
    console.expect(READY);
    console.send("xyz");
    console.expect("xyz");
    console.send(ESCAPE);
    assert_eq!((console.finish().0, vm.wait()), (Some(130), 130));
}

/// `finish` checks the terminal's modes.
#[test]
fn terminal_is_restored_when_the_container_is_removed() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let (vm, mut console) = sector::run(&what, &[]).attached(true);
    console.expect(READY);
    assert!(console.is_raw());
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    let (status, _) = console.finish();
    assert_ne!(status, Some(0));
}

/// Without `-i` and `-t` podman prints and logs the whole console.
#[test]
fn console_without_stdin_is_logged() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let name = unique(LABEL);
    let run = sector::run(&what, &[]);
    let vm = Vm { podman: run.podman, name };
    let mut command = run.podman.command();
    command.args(run.args(&vm.name));
    let mut console = Console::on_pipes(command);
    console.expect(READY);
    // If the guest received this, it would power off.
    console.send(OFF);
    console.close_input();
    assert!(vm.wait_for(READY.trim(), 1).contains("SeaBIOS"), "{}", vm.logs());
    thread::sleep(Duration::from_millis(500));
    assert_eq!(vm.inspect("{{.State.Running}}"), "true", "stdin reached the guest");
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(console.finish().0, Some(137));
}

/// Mebibytes to print: many times the size of all buffers on the way.
fn megabytes() -> usize {
    std::env::var("CRUN_QEMU_TEST_MEGABYTES").map_or(8, |n| n.parse().unwrap())
}

/// Also bytes that mean something on a terminal, such as `ctrl-]`.
#[test]
fn pipes_transport_every_byte() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let (vm, mut console) = sector::run(&what, &["--log-driver", "none"]).attached(false);
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
    let (status, output) = console.finish();
    assert_eq!(status, Some(0));
    let differs = output[start..].iter().zip(&want).position(|(a, b)| a != b);
    assert_eq!((differs, output.len() - start), (None, want.len()), "{:?}", vm.name);
}

#[test]
fn vm_outlives_its_stdin() {
    let root = sector::rootfs(Podman::Rootful);
    let what = root.as_root();
    let (vm, mut console) = sector::run(&what, &[]).attached(false);
    console.expect(READY);
    console.send("last");
    console.close_input();
    console.expect("last");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(vm.inspect("{{.State.Running}}"), "true", "the end of stdin ended the VM");
    vm.podman.ok(&["kill", "-s", "KILL", &vm.name]);
    assert_eq!(console.finish().0, Some(137));
}
