//! An exec that does not reach the guest ends with status 255 and a reason.

use std::process::Output;
use std::thread;
use std::time::Duration;

use super::killed::late_exec_kill_ends_the_command;
use crate::harness::{Form, PATIENCE, Podman, Run, Vm, eventually_within, rootfs, text};

/// Timeout of execs, seconds; an idle guest answers in a fraction of a second.
const TIMEOUT: &str = "20";

/// An sshd that sends its version and then only ignorable messages, forever.
const NEVER_DONE: &str =
    r#"printf 'SSH-2.0-x\r\n'; while printf '\0\0\0\014\006\002\0\0\0\0\0\0\0\0\0\0'; do sleep 1; done"#;
/// An sshd that sends its version one byte at a time.
const NEVER_GREETS: &str = "while printf S; do sleep 1; done";

/// The exec failed with one line that starts with `why`, not counting the line that it waits.
#[track_caller]
fn fails(output: &Output, why: &str) {
    let stderr = text(&output.stderr);
    let message = stderr.strip_prefix("qemu: waiting for the guest's sshd at 10.0.99.2:22\n").unwrap_or(&stderr);
    assert_eq!(output.status.code(), Some(255), "{stderr}");
    assert!(message.starts_with(why) && message.lines().count() == 1, "{stderr:?} instead of {why:?}");
}

/// Runs a script in the guest in the background, which breaks the connection, and returns the first exec that fails.
fn broken_by(vm: &Vm, script: &str) -> Output {
    let script = format!("sleep 1; {script}");
    assert!(vm.exec_command(&["-d"], &["root", "sh", "-c", &script]).output().unwrap().status.success());
    let mut output = None;
    eventually_within(PATIENCE, "execs fail", || {
        let tried = vm.exec(&["tiny", "true"]);
        // This exec was connected when the script ran.
        let lost = text(&tried.stderr).contains("the connection to the guest was lost");
        output = Some(tried).filter(|tried| !lost && !tried.status.success());
        output.is_some()
    });
    output.unwrap()
}

/// A script that replaces the guest's sshd by `script`, in a session that outlives the connection. The port may be in
/// use at first.
fn in_its_place(script: &str) -> String {
    let script = script.replace('\'', r"'\''");
    let server = "while :; do nc -ll -p 22 -e sh /tmp/sshd; sleep 1; done";
    format!("echo '{script}' > /tmp/sshd; setsid sh -c '{server}' > /dev/null 2>&1 < /dev/null & killall dropbear")
}

#[test]
fn each_failure_has_its_reason() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &[],
        what: &what,
        options: &["--timeout", TIMEOUT],
    };
    // When the VM ends while an exec waits for the guest, the exec ends at once, before its timeout.
    let vm = run.detached();
    let mut waiting = vm.exec_command(&[], &["tiny", "true"]);
    let waiting = thread::spawn(move || waiting.output().unwrap());
    eventually_within(PATIENCE, "QEMU runs", || vm.exec(&["-", "pgrep", "qemu-system"]).status.success());
    vm.exec(&["-", "pkill", "-9", "qemu-system"]);
    fails(&waiting.join().unwrap(), "qemu: exec: the VM is not running\n");
    assert_eq!(vm.wait(), 1);

    vm.start();
    vm.wait_for("TINY READY", 1);
    eventually_within(PATIENCE, "execs reach the guest", || vm.exec(&["tiny", "true"]).status.success());
    let unknown = vm.exec(&["nobody-here", "true"]);
    fails(&unknown, "qemu: exec nobody-here: the guest refuses the container's key for this user: ");

    late_exec_kill_ends_the_command(&vm, "tiny", Duration::from_secs(TIMEOUT.parse().unwrap()));

    fails(
        &broken_by(&vm, "killall dropbear"),
        "qemu: exec: the guest has no sshd: it answers and refuses the connection, ",
    );

    let mut boots = 1;
    for (script, why) in [
        (in_its_place(NEVER_DONE), "qemu: exec tiny: the guest's sshd does not finish the login, after "),
        (in_its_place(NEVER_GREETS), "qemu: exec: the guest has no sshd: it takes the connection and does not greet, "),
        ("ip link set eth0 down".into(), "qemu: exec: the guest is not reachable: it does not answer on its network ("),
    ] {
        vm.podman.ok(&["restart", "-t", "60", &vm.name]);
        boots += 1;
        vm.wait_for("TINY READY", boots);
        eventually_within(PATIENCE, "execs reach the guest", || vm.exec(&["tiny", "true"]).status.success());
        fails(&broken_by(&vm, &script), why);
    }
    vm.podman.ok(&["kill", &vm.name]);
    vm.wait();
    let output = vm.exec(&["tiny", "true"]);
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
}
