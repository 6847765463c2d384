//! Killing an exec ends its command in the guest.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Console, PATIENCE, Vm, eventually_within, run, text};

/// Process ids on the host of an exec whose command line contains `mark`: first the client's, then its watcher's.
fn clients(mark: &str) -> Vec<i32> {
    let listed = Command::new("pgrep").args(["-f", &format!("crun-qemu-init exec .*{mark}")]).output().unwrap();
    text(&listed.stdout).lines().map(|line| line.parse().unwrap()).collect()
}

/// Whether `sleep SECONDS` runs in the guest. busybox' pgrep does not distinguish it from the shell that starts it.
pub fn sleeps(vm: &Vm, seconds: &str) -> bool {
    let script =
        format!("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done | grep -qx 'sleep {seconds} '");
    vm.exec(&["root", "sh", "-c", &script]).status.success()
}

/// With a terminal and without.
pub fn exec_kill_ends_the_command(vm: &Vm, user: &str) {
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
        kill_exec(vm, seconds, Duration::ZERO);
        if let Some(child) = &mut child {
            let _ = child.wait();
        }
    }
}

/// The same after `time`, the exec's timeout for reaching the guest.
pub fn late_exec_kill_ends_the_command(vm: &Vm, user: &str, time: Duration) {
    let mut command = vm.exec_command(&["-i"], &[user, "sleep", "98764"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    kill_exec(vm, "98764", time);
    let _ = child.wait();
}

/// Kills the exec `time` after its command has started; the command must end.
#[track_caller]
fn kill_exec(vm: &Vm, seconds: &str, time: Duration) {
    eventually_within(PATIENCE, "the command runs", || sleeps(vm, seconds));
    sleep(time);
    let pids = clients(&format!("sleep {seconds}"));
    assert!(!pids.is_empty());
    run("kill", &["-9", &pids[0].to_string()]);
    eventually_within(PATIENCE, "the command has ended", || !sleeps(vm, seconds));
}
