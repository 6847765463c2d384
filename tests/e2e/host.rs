//! What the host has and lacks: as `crun-qemu doctor` tells it, and as VMs cope with it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The small program that is tried under KVM.
#[allow(dead_code)]
#[path = "../../src/supervisor/src/kvm/program.rs"]
mod program;

use crate::harness::{
    Form, LABEL, PATIENCE, Podman, Vm, directory, rootfs, rootless_home, run, source, text, tiny, unique,
};
use crate::hostile::{build, with_tiny};

const DOCTOR: &str = env!("CARGO_BIN_EXE_crun-qemu");
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// Runs a script in a mount namespace of its own.
fn apart(script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", script]).stdin(Stdio::null());
    command.output().unwrap()
}

/// The words of the engine's error and what the VM printed.
fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Whether a guest boots under KVM here; it is tried with one.
fn kvm_works() -> bool {
    Command::new(source("util/kvm-works.sh")).stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// `podman run` of `what`, without `--emulated`.
fn podman_run(name: &str, options: &[&str], what: &[&str], ours: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["run", "--name", name, "--label", LABEL].map(str::to_string).to_vec();
    args.extend(Form::BuildTree.options());
    let words = options.iter().chain(what).chain(&[""]).chain(ours);
    args.extend(words.map(ToString::to_string));
    args
}

#[test]
fn the_doctor_says_that_a_vm_can_run() {
    for podman in [Podman::Rootful, Podman::Rootless] {
        let output = podman.tool(DOCTOR).arg("doctor").stdin(Stdio::null()).output().unwrap();
        let lines = text(&output.stdout);
        assert!(output.status.success(), "{podman:?}: {lines}{}", text(&output.stderr));
        let find = |name: &str| lines.lines().find(|line| line.get(6..).is_some_and(|l| l.starts_with(name)));
        for name in ["system ", "crun ", "QEMU ", "libvirt ", "ssh ", "network ", "policy "] {
            assert!(find(name).is_some_and(|line| line.starts_with("ok ")), "{podman:?} {name}: {lines}");
        }
        assert_eq!(find("rootless ").is_some(), podman == Podman::Rootless, "{lines}");
    }
    let output = Command::new(DOCTOR).args(["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["usable"], true, "{report}");
    let names: Vec<_> = report["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"KVM") && names.contains(&"virtiofsd"), "{names:?}");
}

#[test]
fn the_doctor_says_what_is_missing() {
    for (hide, line, status) in [
        (format!("mount --bind /dev/null {QEMU}"), "no    QEMU            QEMU: not installed (install the package", 1),
        ("mount -t tmpfs none /etc".into(), "no    system          /etc/ld.so.cache: not there, and by it", 1),
        (
            "mount --bind /dev/null /usr/bin/crun".into(),
            "no    crun            not installed (install the package crun)",
            1,
        ),
        (
            "mount --bind /dev/null /usr/bin/ssh".into(),
            "warn  ssh             ssh: not installed (install the package",
            0,
        ),
        (
            "mkdir -p /etc/crun-qemu; mount -t tmpfs none /etc/crun-qemu; echo x > /etc/crun-qemu/policy".into(),
            "warn  policy          /etc/crun-qemu/policy line 1: \"x\" is not KEY = allow or KEY = deny",
            0,
        ),
    ] {
        let output = apart(&format!("{hide}; exec {DOCTOR} doctor"));
        let lines = text(&output.stdout);
        assert!(lines.lines().any(|l| l.starts_with(line)), "{hide}: {lines}");
        assert_eq!(output.status.code(), Some(status), "{hide}: {lines}");
        assert_eq!(text(&output.stderr).starts_with("qemu: doctor: no VM runs here, because of "), status == 1);
    }
}

/// The small program is right: on a CPU that is as CPUs are, QEMU's emulated one, it leaves all its marks and halts.
#[test]
fn the_program_that_is_tried_under_kvm_is_right() {
    let dir = directory();
    let (firmware, said) = (dir.path().join("firmware"), dir.path().join("said"));
    // QEMU takes no smaller one.
    let padding = vec![0; (64 << 10) - program::LENGTH];
    fs::write(&firmware, [padding, program::image()].concat()).unwrap();
    let console = format!("file:{}", said.display());
    let mut qemu = Command::new(QEMU)
        .args(["-accel", "tcg", "-cpu", "max", "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-debugcon", &console, "-bios", firmware.to_str().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let heard = || fs::read(&said).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while heard().len() < program::MARKS.len() && Instant::now() < deadline && qemu.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = qemu.try_wait().unwrap();
    let _ = qemu.kill();
    let _ = qemu.wait();
    // It halts for good: a fault would have ended QEMU.
    assert_eq!((heard().as_slice(), ended), (&program::MARKS[..], None));
}

/// As the small program fares, so would a guest.
#[test]
fn a_kvm_that_runs_no_guest_is_found_out_and_not_used() {
    let works = kvm_works();
    let doctor = text(&Command::new(DOCTOR).arg("doctor").output().unwrap().stdout);
    let line = doctor.lines().find(|line| line.get(6..).is_some_and(|l| l.starts_with("KVM "))).unwrap();
    assert_eq!(line.starts_with("ok "), works, "{line}");
    let root = rootfs(Podman::Rootful, "tiny");
    let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
    let mut args = podman_run(&vm.name, &[], &["--rootfs", root.path().to_str().unwrap()], &[]);
    args.insert(1, "-d".into());
    vm.podman.ok(&args);
    vm.wait_for("TINY READY", 1);
    let console = vm.logs();
    assert_eq!(console.contains("qemu: /dev/kvm: "), !works, "{console}");
}

#[test]
fn a_kvm_that_is_closed_to_the_containers_user_is_not_used() {
    if !Path::new("/dev/kvm").exists() {
        return;
    }
    let context = with_tiny();
    let image = build(context.path(), "", &[]);
    let name = unique(LABEL);
    let ids = "0:200000:65536";
    let of_another_user = ["--rm", "--uidmap", ids, "--gidmap", ids];
    let args = podman_run(&name, &of_another_user, &[&image.0], &["--print-libvirt-xml"]);
    let words = args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    for (mode, closed) in [("600", true), ("666", false)] {
        let node = "mount -t tmpfs none /mnt; mknod /mnt/kvm c 10 232";
        let output = apart(&format!("{node}; chmod {mode} /mnt/kvm; mount --bind /mnt/kvm /dev/kvm; podman {words}"));
        let said = said(&output);
        assert!(output.status.success(), "{mode}: {said}");
        let warning = "qemu: /dev/kvm: closed to the container's user (the CPU is emulated, which is slow;";
        assert_eq!(said.contains(warning), closed, "{mode}: {said}");
        if closed {
            assert!(said.contains("<domain type=\"qemu\""), "{said}");
        }
    }
}

/// A rootless engine's user may open it by a group, which crun takes from the container's processes.
#[test]
fn a_kvm_of_a_group_wants_the_group_to_be_kept() {
    if !Path::new("/dev/kvm").exists() {
        return;
    }
    const GROUP: &str = "54321";
    // A home of its own, for podman keeps a user's first mount namespace.
    let (home, root) = (directory(), rootfs(Podman::Rootless, "tiny"));
    fs::create_dir(home.path().join("run")).unwrap();
    Podman::Rootless.own(home.path());
    let user = rootless_home().file_name().unwrap().to_str().unwrap().to_string();
    let home = home.path().display();
    for (keep, line) in [
        (&[][..], "qemu: /dev/kvm: open to a group that the container does not keep: --group-add keep-groups ("),
        (&["--group-add", "keep-groups"], ""),
    ] {
        let options = [&["--rm"], keep].concat();
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let args = podman_run(&unique(LABEL), &options, &what, &["--print-libvirt-xml"]);
        let words = args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        // In a new user namespace nobody can take a directory without what is mounted below it.
        let node = format!(
            "findmnt -nro TARGET | grep ^/usr/ | sort -r | xargs -r umount -l; mount -t tmpfs none /mnt; mknod /mnt/kvm c 10 232; chgrp {GROUP} /mnt/kvm; chmod 660 /mnt/kvm; \
             mount --bind /mnt/kvm /dev/kvm; cd {home}; \
             setpriv --reuid {user} --regid {user} --groups {GROUP} env HOME={home} XDG_RUNTIME_DIR={home}/run podman {words}"
        );
        // With its processes goes podman's own that keeps the namespace.
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--mount-proc", "--propagation", "private", "sh", "-ec", &node]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = said(&output);
        assert!(output.status.success() && said.contains("<domain type="), "{keep:?}: {said}");
        assert_eq!(said.contains("open to a group"), !line.is_empty(), "{keep:?}: {said}");
        assert!(said.contains(line), "{keep:?}: {said}");
    }
}

/// QEMU that never answers: a start goes on without what libvirt would know of it, the next one does not wait again, and
/// nothing is left of the one that hung.
#[test]
fn a_qemu_that_hangs_holds_up_one_start_and_no_more() {
    let dir = directory();
    run("chmod", &["777", dir.path().to_str().unwrap()]);
    let (qemu, calls) = (dir.path().join("qemu"), dir.path().join("calls"));
    let forever = format!("86400.{}", std::process::id());
    fs::write(&qemu, format!("#!/bin/sh\nid -u >> {}\nexec sleep {forever}\n", calls.display())).unwrap();
    run("chmod", &["755", qemu.to_str().unwrap()]);
    let root = rootfs(Podman::Rootful, "tiny");
    let hide = format!("mount --bind {} {QEMU}", qemu.display());
    let mut made = Vec::new();
    for turn in [1, 2] {
        let name = unique(LABEL);
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let args = podman_run(&name, &["--rm"], &what, &["--emulated", "--print-libvirt-xml"]);
        let words = args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let output = apart(&format!("{hide}; podman {words}"));
        assert!(output.status.success() && said(&output).contains("<domain type=\"qemu\""), "{}", said(&output));
        // Asked once, and not as root.
        assert_eq!(fs::read_to_string(&calls).unwrap(), "65534\n", "turn {turn}");
        made = reasons("no answer in 30 seconds");
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(run("sh", &["-c", &format!("pgrep -fc '^sleep {forever}' || :")]), "0");
    }
    let doctor = text(&apart(&format!("{hide}; exec {DOCTOR} doctor")).stdout);
    let file = made.pop().unwrap();
    fs::remove_file(file).unwrap();
    // It is asked for its version as well, and does not answer that either.
    assert!(
        doctor.contains("warn  capabilities    libvirt could not ask QEMU what it can do: no answer in 30 seconds"),
        "{doctor}"
    );
}

/// Notes of failures with this text.
fn reasons(why: &str) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir("/var/cache/crun-qemu").unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "failed") && fs::read_to_string(path).unwrap() == why)
        .collect()
}

/// No SELinux is needed to write labels: what SELinux would look at is all there. The runtime is ours below a script that
/// puts a label into the configuration, as engines do where there is SELinux.
#[test]
fn all_that_is_made_for_a_container_carries_its_label() {
    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";
    let dir = directory();
    let runtime = dir.path().join("runtime");
    let script = format!(
        "#!/bin/sh\nfor word; do case $before in --bundle|-b) \
         sed -i 's/\"linux\":{{/&\"mountLabel\":\"{LABEL}\",/' \"$word/config.json\";; esac; before=$word; done\n\
         exec {DOCTOR} \"$@\"\n"
    );
    fs::write(&runtime, script).unwrap();
    run("chmod", &["755", runtime.to_str().unwrap()]);
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--runtime", runtime.to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &options).detached();
    let known = vm.exec_ok(&["-", "ls", "/crun-qemu/capabilities"]);
    assert!(known.ends_with(".xml"), "{known}");
    let bundle = Path::new(&vm.inspect("{{.StaticDir}}")).join("crun-qemu");
    // What has none is printed without it, and is find's failure.
    let all = run("sh", &["-c", "find \"$0\" -printf '%Z %P\n' 2>/dev/null || :", bundle.to_str().unwrap()]);
    let names: Vec<_> = all.lines().filter_map(|line| line.strip_prefix(LABEL)).map(str::trim).collect();
    let root = [
        "",
        "/crun-qemu/supervisor.json",
        "/crun-qemu/seed.img",
        "/crun-qemu/ssh/id",
        "/etc/passwd",
        "/lib",
        "/var/tmp",
    ];
    for name in root.map(|name| format!("root{name}")).into_iter().chain([
        "".into(),
        "overlay.qcow2".into(),
        "fd-store".into(),
        "capabilities".into(),
        format!("capabilities/{}", known.lines().next().unwrap()),
    ]) {
        assert!(names.contains(&name.as_str()), "{name}: {all}");
    }
    // What is made later by others: crun's mount points, the fd store's socket; and what crun alone reads.
    let others: Vec<_> = all.lines().filter(|line| !line.starts_with(LABEL)).collect();
    let expected =
        |line: &str| line.ends_with("config.json") || line.ends_with("fd-store/socket") || line.contains("root/");
    assert!(others.iter().all(|line| expected(line)), "{others:?}");
}
