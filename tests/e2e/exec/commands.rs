//! Commands in the guest behave as in a container.

use std::io::Write;
use std::process::{Output, Stdio};
use std::thread;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::killed::{exec_kill_ends_the_command, sleeps};
use crate::harness::{Console, Form, PATIENCE, Podman, Run, Vm, eventually_within, rootfs, text, tiny};

/// An exec ended with this status, stdout and stderr.
#[track_caller]
pub fn ends(output: &Output, status: i32, stdout: &str, stderr: &str) {
    let got = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(got, (Some(status), stdout.to_string(), stderr.to_string()));
}

/// Arguments arrive byte for byte; `longest` is the length of the longest one that the guest's sshd accepts.
fn arguments(vm: &Vm, user: &str, longest: usize) {
    let long = "y".repeat(longest);
    let hard = [
        "",
        " ",
        "a b",
        "it's",
        "''",
        "\"$HOME\" `id` $(id) ${x}",
        "\\ \\\\ \\n \\'",
        "!! !x a!b",
        "\n",
        "a\n\nb\n",
        "* ? [a-z] ~ {a,b} # ; & | < > ( )",
        "\u{e4}\u{1f600}",
        "\x01\x7f\t\r\x1b",
        "-n",
        "--",
        "%s%n",
        "A=B",
        &long,
    ];
    let args: Vec<&str> = [user, "printf", "<%s>\\0"].into_iter().chain(hard).collect();
    let want: Vec<String> = hard.iter().map(|arg| format!("<{arg}>")).collect();
    let output = vm.exec(&args);
    let stdout = text(&output.stdout);
    let got: Vec<&str> = stdout.split_terminator('\0').collect();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(got.len(), want.len());
    for (got, want) in got.into_iter().zip(want) {
        assert!(got == want, "{:?} instead of {:?}", &got[..got.len().min(80)], &want[..want.len().min(80)]);
    }

    let half = "x".repeat(80 << 10);
    let why = "qemu: exec: command too long: 163981 bytes when quoted, and a guest takes 131071";
    ends(&vm.exec(&[user, "true", &half, &half]), 255, "", &format!("{why} (pass the data on stdin)\n"));
}

/// Exit statuses and signals of the command are the exec's.
pub fn statuses(vm: &Vm, user: &str) {
    for status in [0, 1, 2, 124, 125, 126, 127, 128, 254, 255] {
        ends(&vm.exec(&[user, "sh", "-c", &format!("exit {status}")]), status, "", "");
    }
    for (signal, status) in [("KILL", 137), ("TERM", 143), ("INT", 130), ("SEGV", 139)] {
        ends(&vm.exec(&[user, "sh", "-c", &format!("kill -s {signal} $$")]), status, "", "");
    }
    assert_eq!(vm.exec(&[user, "/nonexistent"]).status.code(), Some(127));
    assert_eq!(vm.exec(&[user, "/etc/passwd"]).status.code(), Some(126));
}

/// stdin, stdout and stderr are separate and binary.
pub fn streams(vm: &Vm, user: &str, megabytes: usize) {
    ends(&vm.exec(&[user, "sh", "-c", "echo out; echo err >&2; echo out"]), 0, "out\nout\n", "err\n");
    ends(&vm.exec(&[user, "cat"]), 0, "", "");
    let mut seed = 1u32;
    let data = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    let data: Vec<u8> = data.take(megabytes << 20).collect();
    let mut child = vm.exec_command(&["-i"], &[user, "sh", "-c", "cat; echo end >&2"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let copy = data.clone();
    let writer = thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(text(&output.stderr), "end\n");
    assert_eq!(output.stdout.len(), data.len());
    assert_eq!(Sha256::digest(&output.stdout), Sha256::digest(&data));
}

/// `-e` for a command and for a login shell, `-w` and `-d`.
pub fn options(vm: &Vm, user: &str) {
    let variables = ["-e", "A=x 'y' $z", "-e", "EMPTY=", "-e", "PATH_TO=/a:/b"];
    let print = "printf '%s|%s|%s' \"$A\" \"${EMPTY-unset}\" \"$PATH_TO\"";
    let output = vm.exec_command(&variables, &[user, "sh", "-c", print]).output().unwrap();
    ends(&output, 0, "x 'y' $z||/a:/b", "");
    let mut shell = vm.exec_command(&[&variables[..], &["-i"]].concat(), &[user]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(print.as_bytes()).unwrap();
    assert!(text(&shell.wait_with_output().unwrap().stdout).ends_with("x 'y' $z||/a:/b"), "a login shell");

    vm.exec_ok(&["root", "mkdir", "-p", "/srv/only in the guest"]);
    let output = vm.exec_command(&["-w", "/srv/only in the guest"], &[user, "pwd"]).output().unwrap();
    ends(&output, 0, "/srv/only in the guest\n", "");
    let output = vm.exec_command(&["-w", "/nowhere"], &[user, "pwd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/nowhere"), "{}", text(&output.stderr));

    vm.exec_command(&["-d"], &[user, "sh", "-c", "sleep 1; echo done > /tmp/detached"]).status().unwrap();
    eventually_within(PATIENCE, "the detached exec has run", || {
        vm.exec(&[user, "cat", "/tmp/detached"]).stdout == b"done\n"
    });
}

/// The command's terminal has the size and type of the user's, and ctrl-c reaches the command.
pub fn terminal(vm: &Vm, user: &str) {
    let script = "stty size; echo TERM=$TERM; trap 'stty size' WINCH; trap 'echo interrupted; exit 7' INT; \
                  echo ready; while :; do sleep 0.2; done";
    let command = vm.exec_command(&["-it", "-e", "TERM=screen-256color"], &[user, "sh", "-c", script]);
    let mut console = Console::on_terminal(command);
    console.expect("ready");
    console.resize(33, 101);
    console.expect("33 101");
    console.resize(44, 99);
    let output = console.expect("44 99");
    assert!(output.contains("TERM=screen-256color"), "{output}");
    console.send("\x03");
    console.expect("interrupted");
    assert_eq!(console.finish().0, Some(7));

    let mut console = Console::on_terminal(vm.exec_command(&["-it"], &[user]));
    console.send("tty && echo $((6 * 7)) is printed\n");
    let output = console.expect("42 is printed");
    assert!(output.contains("/dev/pts/"), "{output}");
    console.send("exit 5\n");
    assert_eq!(console.finish().0, Some(5), "a login shell's status");
}

/// Many execs at once, which start and end independently. OpenSSH accepts fewer than 20 sessions on a connection.
fn concurrent(vm: &Vm, user: &str, many: usize) {
    let execs: Vec<_> = (0..many)
        .map(|i| {
            let script = format!("sleep {}; echo {i}; exit {i}", i % 4);
            let mut command = vm.exec_command(&[], &[user, "sh", "-c", &script]);
            thread::spawn(move || command.output().unwrap())
        })
        .collect();
    for (i, exec) in execs.into_iter().enumerate() {
        ends(&exec.join().unwrap(), i as i32, &format!("{i}\n"), "");
    }
}

/// The user `-` is the container around the VM, which also has the status command.
fn dash_runs_in_the_container(vm: &Vm) {
    assert_eq!(vm.exec_ok(&["-", "id", "-u"]), "0");
    assert!(vm.exec_ok(&["-", "ls", "/crun-qemu"]).contains("supervisor.json"));
    ends(&vm.exec(&["-", "sh", "-c", "exit 9"]), 9, "", "");
    let mut shell = vm.exec_command(&["-i"], &["-"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"echo $((6 * 7))\n").unwrap();
    assert_eq!(text(&shell.wait_with_output().unwrap().stdout), "42\n", "a shell where no command is given");
    let output = vm.exec(&["-", "nonexistent"]);
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));

    let status = vm.status();
    let names: Vec<&str> = status.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let want = ["name", "state", "uptime", "accelerator", "vcpus", "memory", "disk", "disk", "guest", "container"];
    assert_eq!(names[..want.len()], want, "{status}");
    let json = vm.status_json();
    assert_eq!((&json["state"], &json["accelerator"]), (&Value::from("running"), &Value::from("tcg")), "{json}");
    assert!(json["uptime"].as_u64().is_some_and(|seconds| seconds > 0), "{json}");
    assert_eq!(json["disks"][0]["source"], "/crun-qemu/overlay.qcow2", "{json}");
    let address = vm.inspect("{{.NetworkSettings.IPAddress}}");
    assert_eq!(json["container_addresses"][0], address.as_str(), "{json}");
}

/// A user whom the guest does not know is refused with a reason.
fn unknown_user_is_refused(vm: &Vm) {
    let output = vm.exec(&["nobody-here", "true"]);
    let stderr = text(&output.stderr);
    // A busy guest may answer late.
    let stderr = stderr.strip_prefix("qemu: waiting for the guest's sshd at 10.0.99.2:22\n").unwrap_or(&stderr);
    assert_eq!(output.status.code(), Some(255), "{stderr}");
    let want = "qemu: exec nobody-here: the guest refuses the container's key for this user: ";
    assert!(stderr.starts_with(want) && stderr.trim_end().ends_with("(is there such a user?)"), "{stderr}");
}

/// OpenSSH and a full userland.
#[test]
fn exec_in_a_cloud_guest_behaves_as_in_a_container() {
    let root = rootfs(Podman::Rootful, "cloud");
    let what = root.as_root();
    let podman_options = ["--memory", "768m"];
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &podman_options,
        what: &what,
        options: &[],
    };
    let vm = run.detached();
    // During the boot exec prints what it waits for, and its progress from time to time.
    let output = vm.exec(&["debian", "echo", "in"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "in\n"), "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    let (first, more) = stderr.split_once('\n').unwrap();
    assert!(first.starts_with("qemu: waiting for the guest's sshd at 10."), "{stderr}");
    let known = |line: &str| {
        line.starts_with("qemu: still waiting, after ") && line.contains(" s after the VM's start: the guest")
    };
    assert!(more.lines().all(known), "{stderr}");
    let user = "debian";
    arguments(&vm, user, 100 << 10);
    statuses(&vm, user);
    streams(&vm, user, 20);
    options(&vm, user);
    terminal(&vm, user);
    dash_runs_in_the_container(&vm);
    unknown_user_is_refused(&vm);
    exec_kill_ends_the_command(&vm, user);
    concurrent(&vm, user, 20);
}

/// dropbear and busybox; also health checks, a reboot, and the VM's end.
#[test]
fn exec_in_a_small_guest_behaves_as_in_a_container() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let check = r#"["tiny","test","-e","/tmp/healthy"]"#;
    // The image's WORKDIR, which is not the working directory of an exec.
    std::fs::create_dir(root.join("srv")).unwrap();
    let health = ["-w", "/srv", "--health-cmd", check, "--health-interval", "disable", "--health-retries", "1"];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &health).detached();
    vm.wait_for("TINY READY", 1);
    // On a busy machine the first exec may print that it waits for sshd; later ones may not.
    vm.exec_ok(&["tiny", "true"]);
    arguments(&vm, "tiny", 4 << 10);
    ends(&vm.exec(&["tiny", "sh", "-c", "kill -9 $$"]), 137, "", "");
    streams(&vm, "tiny", 2);
    options(&vm, "tiny");
    terminal(&vm, "tiny");
    exec_kill_ends_the_command(&vm, "tiny");
    concurrent(&vm, "tiny", 12);
    dash_runs_in_the_container(&vm);

    for (change, status) in [("touch", "healthy"), ("rm", "unhealthy")] {
        vm.exec_ok(&["tiny", change, "/tmp/healthy"]);
        let output = vm.podman.output(&["healthcheck", "run", &vm.name]);
        assert_eq!(output.status.success(), status == "healthy", "{}", text(&output.stderr));
        assert_eq!(vm.inspect("{{.State.Health.Status}}"), status);
    }
    // A health check in shell form names no user of the guest.
    let why = "qemu: exec sh: a shell's command line, and no user of the guest to run it";
    let hint = r#"(podman exec CONTAINER USER COMMAND, --health-cmd '["USER","COMMAND"]')"#;
    ends(&vm.exec(&["sh", "-c", "true"]), 255, "", &format!("{why} {hint}\n"));

    let before = vm.exec_ok(&["root", "cat", "/proc/sys/kernel/random/boot_id"]);
    vm.exec(&["root", "reboot"]);
    vm.wait_for("TINY READY", 2);
    let after = vm.exec_ok(&["root", "cat", "/proc/sys/kernel/random/boot_id"]);
    assert_ne!(before, after);

    // A command that runs when the VM ends, and one after the VM's end.
    let mut long = vm.exec_command(&[], &["root", "sleep", "98763"]);
    let long = thread::spawn(move || long.output().unwrap());
    eventually_within(PATIENCE, "the command runs", || sleeps(&vm, "98763"));
    assert_eq!(vm.stop(), 0);
    let output = long.join().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = vm.exec(&["root", "true"]);
    assert_eq!(output.status.code(), Some(255), "{}", text(&output.stderr));
}
