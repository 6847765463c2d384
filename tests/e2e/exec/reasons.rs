//! An exec that does not get in ends with 255 and says what it is that keeps it out.

use std::process::Output;
use std::thread;
use std::time::Duration;

use super::killed::killed_late;
use super::until;
use crate::harness::{Form, Podman, Run, Vm, rootfs, text};

/// How long execs wait here: an idle guest takes a fraction of a second.
const TIMEOUT: &str = "20";

/// An sshd that greets, and then says nothing of use for ever.
const NEVER_DONE: &str =
    r#"printf 'SSH-2.0-x\r\n'; while printf '\0\0\0\014\006\002\0\0\0\0\0\0\0\0\0\0'; do sleep 1; done"#;
/// One that greets a byte at a time.
const NEVER_GREETS: &str = "while printf S; do sleep 1; done";

/// Its message, without the line that says that it waits, and without the system's words for the reason.
#[track_caller]
fn fails(output: &Output, why: &str) {
    let said = text(&output.stderr);
    let message = said.strip_prefix("qemu: waiting for the guest's sshd at 10.0.99.2:22\n").unwrap_or(&said);
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(message.starts_with(why) && message.lines().count() == 1, "{said:?} instead of {why:?}");
}

/// Leaves a command to itself, which takes the guest's network from under execs, and returns how the first one fails.
fn broken_by(vm: &Vm, script: &str) -> Output {
    let script = format!("sleep 1; {script}");
    assert!(vm.exec_command(&["-d"], &["root", "sh", "-c", &script]).output().unwrap().status.success());
    let mut output = None;
    until("all is as before", || {
        let tried = vm.exec(&["tiny", "true"]);
        // One that was at work meanwhile.
        let lost = text(&tried.stderr).contains("the connection to the guest was lost");
        output = Some(tried).filter(|tried| !lost && !tried.status.success());
        output.is_some()
    });
    output.unwrap()
}

/// Puts that in the place of the guest's sshd, from a session of its own: this one ends with the connection. The port may
/// still be taken at first.
fn in_its_place(script: &str) -> String {
    let script = script.replace('\'', r"'\''");
    let server = "while :; do nc -ll -p 22 -e sh /tmp/sshd; sleep 1; done";
    format!("echo '{script}' > /tmp/sshd; setsid sh -c '{server}' > /dev/null 2>&1 < /dev/null & killall dropbear")
}

#[test]
fn each_has_its_own() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &[],
        what: &what,
        options: &["--timeout", TIMEOUT],
    };
    // The VM's end while an exec waits for the guest: it is over at once, whatever is left of its time.
    let vm = run.detached();
    let mut waiting = vm.exec_command(&[], &["tiny", "true"]);
    let waiting = thread::spawn(move || waiting.output().unwrap());
    until("QEMU did not start", || vm.exec(&["-", "pgrep", "qemu-system"]).status.success());
    vm.exec(&["-", "pkill", "-9", "qemu-system"]);
    fails(&waiting.join().unwrap(), "qemu: exec: the VM is not running\n");
    assert_eq!(vm.wait(), 1);

    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 1);
    until("nobody gets in", || vm.exec(&["tiny", "true"]).status.success());
    let stranger = vm.exec(&["nobody-here", "true"]);
    fails(&stranger, "qemu: exec nobody-here: the guest refuses the container's key for this user: ");

    killed_late(&vm, "tiny", Duration::from_secs(TIMEOUT.parse().unwrap()));

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
        until("nobody gets in", || vm.exec(&["tiny", "true"]).status.success());
        fails(&broken_by(&vm, &script), why);
    }
    vm.podman.ok(&["kill", &vm.name]);
    vm.wait();
    let output = vm.exec(&["tiny", "true"]);
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
}
