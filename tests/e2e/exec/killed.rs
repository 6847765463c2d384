//! An exec that is killed takes its command in the guest with it.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::until;
use crate::console::Console;
use crate::harness::{Vm, run, text};

/// The host's process ids of an exec whose command line has `mark`: the client's first, then its watcher's.
fn clients(mark: &str) -> Vec<i32> {
    let listed = Command::new("pgrep").args(["-f", &format!("crun-qemu-init exec .*{mark}")]).output().unwrap();
    text(&listed.stdout).lines().map(|line| line.parse().unwrap()).collect()
}

/// Whether the guest sleeps for that long; busybox' pgrep cannot tell the command from the shell above it.
pub fn sleeps(vm: &Vm, seconds: &str) -> bool {
    let script =
        format!("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done | grep -qx 'sleep {seconds} '");
    vm.exec(&["root", "sh", "-c", &script]).status.success()
}

/// When the exec is killed, the command in the guest ends, with a terminal and without.
pub fn killed(vm: &Vm, user: &str) {
    for (tty, seconds) in [(false, "98761"), (true, "98762")] {
        let mut command = vm.exec_command(if tty { &["-it"] } else { &["-i"] }, &[user, "sleep", seconds]);
        let (mut child, _terminal);
        if tty {
            _terminal = Some(Console::on_terminal(command));
            child = None;
        } else {
            _terminal = None;
            child = Some(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        }
        ends_with_its_exec(vm, seconds, Duration::ZERO);
        if let Some(child) = &mut child {
            let _ = child.wait();
        }
    }
}

/// The same when the exec's time for getting in, which is that long, is over.
pub fn killed_late(vm: &Vm, user: &str, time: Duration) {
    let mut command = vm.exec_command(&["-i"], &[user, "sleep", "98764"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    ends_with_its_exec(vm, "98764", time);
    let _ = child.wait();
}

/// Kills the exec when its command has begun, and that long ago.
#[track_caller]
fn ends_with_its_exec(vm: &Vm, seconds: &str, time: Duration) {
    until("the command did not begin", || sleeps(vm, seconds));
    sleep(time);
    let pids = clients(&format!("sleep {seconds}"));
    assert!(!pids.is_empty());
    run("kill", &["-9", &pids[0].to_string()]);
    until("the command lives on", || !sleeps(vm, seconds));
}
