//! The choice between KVM and emulation.

use crate::harness::{
    Form, Image, LABEL, PATIENCE, Podman, Vm, directory, mount_namespace, rootfs, rootless_home, source, text, unique,
    with_tiny,
};

/// The program that the supervisor runs to test KVM.
#[allow(dead_code)]
#[path = "../../../src/supervisor/src/kvm/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const DOCTOR: &str = env!("CARGO_BIN_EXE_crun-qemu");

/// stdout and stderr.
fn printed(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Whether a guest boots under KVM on this host.
fn kvm_works() -> bool {
    Command::new(source("util/kvm-works.sh")).stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// `podman run` without `--emulated`.
fn podman_run(name: &str, podman_options: &[&str], what: &[&str], options: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["run", "--name", name, "--label", LABEL].map(str::to_string).to_vec();
    args.extend(Form::BuildTree.options());
    let words = podman_options.iter().chain(what).chain(&[""]).chain(options);
    args.extend(words.map(ToString::to_string));
    args
}

/// The arguments as words of a shell.
fn quoted(args: &[String]) -> String {
    args.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}

/// On QEMU's emulated CPU, which is correct, the program writes all its marks and halts.
#[test]
fn kvm_test_program_runs_on_an_emulated_cpu() {
    let dir = directory();
    let (firmware, output) = (dir.at("firmware"), dir.join("output"));
    // QEMU accepts no firmware of less than 64 KiB.
    let padding = vec![0; (64 << 10) - program::LENGTH];
    fs::write(&firmware, [padding, program::image()].concat()).unwrap();
    let console = format!("file:{}", output.display());
    let mut qemu = Command::new("/usr/bin/qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-debugcon", &console, "-bios", &firmware])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let marks = || fs::read(&output).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while marks().len() < program::MARKS.len() && Instant::now() < deadline && qemu.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = qemu.try_wait().unwrap();
    let _ = qemu.kill();
    let _ = qemu.wait();
    // The CPU has halted: a fault would have ended QEMU.
    assert_eq!((marks().as_slice(), ended), (&program::MARKS[..], None));
}

/// The doctor and a start agree with a real guest about KVM.
#[test]
fn kvm_that_runs_no_guest_is_not_used() {
    let works = kvm_works();
    let doctor = text(&Command::new(DOCTOR).arg("doctor").output().unwrap().stdout);
    let line = doctor.lines().find(|line| line.get(6..).is_some_and(|l| l.starts_with("KVM "))).unwrap();
    assert_eq!(line.starts_with("ok "), works, "{line}");
    let root = rootfs(Podman::Rootful, "tiny");
    let vm = Vm::new(Podman::Rootful);
    let mut args = podman_run(&vm.name, &[], &root.as_root(), &[]);
    args.insert(1, "-d".into());
    vm.podman.ok(&args);
    vm.wait_for("TINY READY", 1);
    let console = vm.logs();
    assert_eq!(console.contains("qemu: /dev/kvm: "), !works, "{console}");
}

#[test]
fn kvm_without_access_for_the_containers_user_is_not_used() {
    if !Path::new("/dev/kvm").exists() {
        return;
    }
    let context = with_tiny();
    let image = Image::built(context.path(), "", &[]);
    let ids = "0:200000:65536";
    let podman_options = ["--rm", "--uidmap", ids, "--gidmap", ids];
    let args = quoted(&podman_run(&unique(LABEL), &podman_options, &[&image.tag], &["--print-libvirt-xml"]));
    for (mode, closed) in [("600", true), ("666", false)] {
        let node = "mount -t tmpfs none /mnt; mknod /mnt/kvm c 10 232";
        let script = format!("{node}; chmod {mode} /mnt/kvm; mount --bind /mnt/kvm /dev/kvm; podman {args}");
        let output = mount_namespace(&script).output().unwrap();
        let printed = printed(&output);
        assert!(output.status.success(), "{mode}: {printed}");
        let warning = "qemu: /dev/kvm: closed to the container's user (the CPU is emulated, which is slow;";
        assert_eq!(printed.contains(warning), closed, "{mode}: {printed}");
        if closed {
            assert!(printed.contains("<domain type=\"qemu\""), "{printed}");
        }
    }
}

/// A rootless user may have access through a supplementary group, which crun removes from the container's processes
/// unless it is told to keep it.
#[test]
fn kvm_of_a_group_needs_keep_groups() {
    if !Path::new("/dev/kvm").exists() {
        return;
    }
    const GROUP: &str = "54321";
    // A new home directory: podman keeps the first mount namespace of a user.
    let (home, root) = (directory(), rootfs(Podman::Rootless, "tiny"));
    fs::create_dir(home.join("run")).unwrap();
    Podman::Rootless.own(home.path());
    let user = rootless_home().file_name().unwrap().to_str().unwrap().to_string();
    let home = home.path().display();
    for (keep, line) in [
        (&[][..], "qemu: /dev/kvm: open to a group that the container does not keep: --group-add keep-groups ("),
        (&["--group-add", "keep-groups"], ""),
    ] {
        let options = [&["--rm"], keep].concat();
        let args = quoted(&podman_run(&unique(LABEL), &options, &root.as_root(), &["--print-libvirt-xml"]));
        // In a new user namespace a bind mount of a directory includes the mounts below it, or fails.
        let node = format!(
            "findmnt -nro TARGET | grep ^/usr/ | sort -r | xargs -r umount -l; mount -t tmpfs none /mnt; mknod /mnt/kvm c 10 232; chgrp {GROUP} /mnt/kvm; chmod 660 /mnt/kvm; \
             mount --bind /mnt/kvm /dev/kvm; cd {home}; \
             setpriv --reuid {user} --regid {user} --groups {GROUP} env HOME={home} XDG_RUNTIME_DIR={home}/run podman {args}"
        );
        // The PID namespace ends podman's process that keeps the mount namespace.
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--mount-proc", "--propagation", "private", "sh", "-ec", &node]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let printed = printed(&output);
        assert!(output.status.success() && printed.contains("<domain type="), "{keep:?}: {printed}");
        assert_eq!(printed.contains("open to a group"), !line.is_empty(), "{keep:?}: {printed}");
        assert!(printed.contains(line), "{keep:?}: {printed}");
    }
}
