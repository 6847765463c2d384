//! VMs that cannot start: podman's message contains the whole error line, and nothing is left behind.

use crate::harness::{BadRoot, Dir, Form, Podman, ROOTS, Run, Vm, assert_refused, directory, text, write_image};

/// podman's options, the VM's options and the error line.
const OPTIONS: &[(&[&str], &[&str], &str)] = &[
    (&[], &["--bogus"], "--bogus: unknown option (crun-qemu options lists all)"),
    (&[], &["-x"], r#"argument "-x": not an option (crun-qemu options lists all)"#),
    (&[], &["--firmware"], "--firmware: its value is missing (--firmware auto|bios|uefi)"),
    (&[], &["--firmware", "efi"], r#"--firmware: "efi" is unknown (auto, bios or uefi)"#),
    (&["--annotation", "run.oci.qemu.emulated=perhaps"], &[], r#"--emulated: "perhaps" is neither true nor false"#),
    (&[], &["--emulated"], "--emulated: given twice"),
    (
        &["--annotation", "run.oci.qemu.password=x"],
        &["--password-file", "/x"],
        "--password-file: given beside --password (one of the two)",
    ),
    (&[], &["--bo\ngus\x1b[2J"], r"--bo\ngus\u{1b}[2J: unknown option (crun-qemu options lists all)"),
    (
        &["--annotation", "run.oci.qemu.bogus=1"],
        &[],
        "annotation run.oci.qemu.bogus: unknown (crun-qemu options lists all)",
    ),
    (&[], &["--disk-size", "1.5G"], r#"--disk-size: "1.5G" is not a size (a number and K, M, G or T, such as 20G)"#),
    (&[], &["--disk-size", "1K"], "--disk-size: 1024 bytes are less than the image's 4096 (a disk can only grow)"),
    (
        &["--annotation", "run.oci.qemu.disk-size=1G"],
        &["--persistent"],
        "--disk-size: given beside --persistent (resize the image with qemu-img)",
    ),
    (&["--read-only"], &["--persistent"], "--persistent: the container is read-only (leave --read-only out)"),
    (
        &[],
        &["--persistent"],
        "--persistent: a guest can write a header of another format to a raw image (pass --format raw at every \
         start)",
    ),
    (&["--memory", "16m"], &["--firmware", "bios"], "--memory: 16 MiB is too little for a VM (at least 32m)"),
    (&["--memory", "32m"], &["--firmware", "uefi"], "--memory: 32 MiB is too little for a VM with UEFI (at least 64m)"),
];

/// Required files, and the error line if one is missing.
const SOFTWARE: &[(&str, &str)] = &[
    (
        "/usr/bin/qemu-system-x86_64",
        "QEMU: not installed (install the package qemu-system-x86 (Debian) or qemu-kvm (Fedora))",
    ),
    (
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
        "libvirt's QEMU driver: not installed (install the package libvirt-daemon-driver-qemu)",
    ),
    (
        concat!(env!("CARGO_BIN_EXE_crun-qemu"), "-init"),
        concat!(env!("CARGO_BIN_EXE_crun-qemu"), "-init: not an executable (run make install again)"),
    ),
];

/// One root in one form.
fn refuses_root(podman: Podman, form: Form, bad: &BadRoot) {
    eprintln!("{} ({podman:?}, {form:?})", bad.name);
    let root = directory();
    (bad.make)(root.path());
    podman.own(root.path());
    let what = root.as_root();
    assert_refused(&Run { podman, form, podman_options: &[], what: &what, options: &[] }, root.path(), None, bad.line);
}

/// A root with a usable image.
fn good_root() -> Dir {
    let root = directory();
    write_image(&root.join("disk.img"));
    root
}

fn refuses_options(form: Form, which: &[(&[&str], &[&str], &str)]) {
    let root = good_root();
    let what = root.as_root();
    for (podman_options, options, line) in which {
        let run = Run { podman: Podman::Rootful, form, podman_options, what: &what, options };
        assert_refused(&run, root.path(), None, line);
    }
}

#[test]
fn bad_roots_are_refused() {
    ROOTS.iter().for_each(|bad| refuses_root(Podman::Rootful, Form::BuildTree, bad));
}

#[test]
fn bad_roots_are_refused_by_the_plugin() {
    let some = ["no file", "a symlink with ..", "a backing file", "truncated"];
    let some = ROOTS.iter().filter(|bad| some.contains(&bad.name));
    assert_eq!(some.map(|bad| refuses_root(Podman::Rootful, Form::Plugin, bad)).count(), 4);
}

#[test]
fn bad_roots_are_refused_rootless() {
    let some = ["two files", "an absolute symlink", "a fifo", "an external data file"];
    let some = ROOTS.iter().filter(|bad| some.contains(&bad.name));
    assert_eq!(some.map(|bad| refuses_root(Podman::Rootless, Form::Executable, bad)).count(), 4);
}

#[test]
fn bad_options_are_refused() {
    refuses_options(Form::BuildTree, OPTIONS);
    refuses_options(Form::Plugin, &[OPTIONS[0], OPTIONS[2], OPTIONS[7], OPTIONS[8]]);
}

#[test]
fn command_is_refused() {
    let root = good_root();
    // Without "" after the directory the next word is a command.
    let what = [&root.as_root()[..], &["/sbin/init"]].concat();
    let vm = Vm::new(Podman::Rootful);
    for form in [Form::BuildTree, Form::Plugin] {
        let mut args = vec!["run".to_string(), "--rm".into(), "--name".into(), vm.name.clone()];
        args.extend(form.options());
        args.extend(what.iter().map(ToString::to_string));
        let output = vm.podman.output(&args);
        let want =
            "qemu: command \"/sbin/init\": a VM image runs none (put \"\" after the image, and options after that)\n";
        assert!(text(&output.stderr).ends_with(want), "{}", text(&output.stderr));
        assert_ne!(output.status.code(), Some(0));
    }
}

#[test]
fn missing_software_is_reported() {
    let root = good_root();
    let what = root.as_root();
    let run = |form| Run { podman: Podman::Rootful, form, podman_options: &[], what: &what, options: &[] };
    for (file, line) in SOFTWARE {
        assert_refused(&run(Form::BuildTree), root.path(), Some(file), line);
    }
    assert_refused(&run(Form::Plugin), root.path(), Some(SOFTWARE[1].0), SOFTWARE[1].1);
    let init = "/usr/local/libexec/crun-qemu/crun-qemu-init";
    let line = format!("{init}: not an executable (run make install again)");
    assert_refused(&run(Form::Plugin), root.path(), Some(init), &line);
}
