//! What cannot be run: podman's message has our whole line, and nothing of ours is left behind.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::bad_roots::{Bad, ROOTS, image};
use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, run, text, unique};
use crate::host_view::podman_with;

/// The rule for images, as our hint says it.
const SOLE: &str = "(the VM image must be the only regular file in / or in /disk/)";

/// podman's options, ours and our line.
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
    (&[], &["--disk-size", "1.5G"], r#"--disk-size: "1.5G" is no size (a number and K, M, G or T, as 20G)"#),
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
        "--persistent: a guest can write a header of another format to a raw image (say that it is raw, each time: \
         --format raw)",
    ),
    (&["--memory", "16m"], &["--firmware", "bios"], "--memory: 16 MiB is too little for a VM (at least 32m)"),
    (&["--memory", "32m"], &["--firmware", "uefi"], "--memory: 32 MiB is too little for a VM with UEFI (at least 64m)"),
];

/// What a VM cannot do without, and our line when it is missing.
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

/// Every path below `root` but podman's own `/etc`, which it makes in any root.
fn listing(root: &Path) -> String {
    let printed = ["-path", "*/etc", "-prune", "-o", "-printf", "%P %y %s %T@ %m %U\n"];
    run("find", &[&[root.to_str().unwrap(), "-mindepth", "1"], &printed[..]].concat())
}

/// Runs what has to be refused with `line`, and looks for what is left behind. `hidden` is a file that is not there
/// meanwhile. The container itself stays, as podman has it, so that its bundle can be looked into.
#[track_caller]
pub fn refused(run: &Run, root: &Path, hidden: Option<&str>, line: &str) {
    let before = listing(root);
    let vm = Vm { podman: run.podman, name: unique(LABEL) };
    let output = podman(run, &vm.name, hidden);
    let stderr = text(&output.stderr);
    let want = format!("qemu: {}", line.replace("SOLE", SOLE).replace("ROOT", root.to_str().unwrap()));
    let got = stderr.lines().find_map(|l| Some(&l[l.find("qemu: ")?..])).unwrap_or_default();
    // The runtime executable's own name, which podman puts in front, ends like our line begins.
    let got = got.strip_prefix("qemu: ").filter(|rest| rest.starts_with("qemu: ")).unwrap_or(got);
    assert_eq!(got, want, "{:?}: {stderr}", run.form);
    assert_ne!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(listing(root), before, "the root was changed");
    nothing_left(&vm);
}

/// Detached, so that what starts all the same is a failure at once and not a VM that runs for ever.
pub fn podman(run: &Run, name: &str, hidden: Option<&str>) -> Output {
    let mut args = run.args(name);
    args.insert(1, "-d".into());
    let Some(file) = hidden else { return run.podman.output(&args) };
    podman_with(Path::new("/dev/null"), file).args(args).output().unwrap()
}

/// Nothing of ours is there of a container that did not start.
#[track_caller]
pub fn nothing_left(vm: &Vm) {
    let id = vm.inspect("{{.ID}}");
    let storage = vm.podman.ok(&["info", "--format", "{{.Store.GraphRoot}} {{.Store.GraphDriverName}}"]);
    let (graph, driver) = storage.split_once(' ').unwrap();
    let bundle = Path::new(graph).join(format!("{driver}-containers")).join(&id).join("userdata");
    assert!(bundle.is_dir(), "{}", bundle.display());
    assert!(!bundle.join("crun-qemu").exists(), "{} is left", bundle.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.lines().any(|m| m.contains(&id) && m.contains("crun-qemu")), "{mounts}");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).map(|b| text(&b)).unwrap_or_default();
        let ours = read("cmdline").contains("qemu") && read("cgroup").contains(&id);
        assert!(!ours, "a process is left: {}", read("cmdline"));
    }
    let tap = format!("vm-{}", &id[..8]);
    assert!(!Path::new("/sys/class/net").join(&tap).exists(), "{tap} is left");
    assert!(!run("nft", &["list", "tables"]).contains(&tap), "a table is left");
}

/// One bad root in one form.
fn bad_root(podman: Podman, form: Form, bad: &Bad) {
    eprintln!("{} ({podman:?}, {form:?})", bad.name);
    let root = directory();
    (bad.make)(root.path());
    podman.own(root.path());
    let what = ["--rootfs", root.path().to_str().unwrap()];
    refused(&Run { podman, form, podman_options: &[], what: &what, options: &[] }, root.path(), None, bad.line);
}

/// A root that is well.
fn good_root() -> TempDir {
    let root = directory();
    image(&root.path().join("disk.img"));
    root
}

fn bad_options(form: Form, which: &[(&[&str], &[&str], &str)]) {
    let root = good_root();
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for (podman_options, options, line) in which {
        let run = Run { podman: Podman::Rootful, form, podman_options, what: &what, options };
        refused(&run, root.path(), None, line);
    }
}

#[test]
fn roots() {
    ROOTS.iter().for_each(|bad| bad_root(Podman::Rootful, Form::BuildTree, bad));
}

#[test]
fn roots_with_the_plugin() {
    let some = ["no file", "a symlink upwards", "a backing file", "truncated"];
    let some = ROOTS.iter().filter(|bad| some.contains(&bad.name));
    assert_eq!(some.map(|bad| bad_root(Podman::Rootful, Form::Plugin, bad)).count(), 4);
}

#[test]
fn roots_rootless() {
    let some = ["two files", "an absolute symlink", "a fifo", "an external data file"];
    let some = ROOTS.iter().filter(|bad| some.contains(&bad.name));
    assert_eq!(some.map(|bad| bad_root(Podman::Rootless, Form::Executable, bad)).count(), 4);
}

#[test]
fn options() {
    bad_options(Form::BuildTree, OPTIONS);
    bad_options(Form::Plugin, &[OPTIONS[0], OPTIONS[2], OPTIONS[7], OPTIONS[8]]);
}

#[test]
fn a_command() {
    let root = good_root();
    // No "" after the directory: what follows is a command.
    let what = ["--rootfs", root.path().to_str().unwrap(), "/sbin/init"];
    let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
    for form in [Form::BuildTree, Form::Plugin] {
        let mut args = vec!["run".to_string(), "--rm".into(), "--name".into(), vm.name.clone()];
        args.extend(form.options());
        args.extend(what.map(String::from));
        let output = vm.podman.output(&args);
        let want =
            "qemu: command \"/sbin/init\": a VM image runs none (put \"\" after the image, and options after that)\n";
        assert!(text(&output.stderr).ends_with(want), "{}", text(&output.stderr));
        assert_ne!(output.status.code(), Some(0));
    }
}

#[test]
fn missing_software() {
    let root = good_root();
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let run = |form| Run { podman: Podman::Rootful, form, podman_options: &[], what: &what, options: &[] };
    for (file, line) in SOFTWARE {
        refused(&run(Form::BuildTree), root.path(), Some(file), line);
    }
    refused(&run(Form::Plugin), root.path(), Some(SOFTWARE[1].0), SOFTWARE[1].1);
    let init = "/usr/local/libexec/crun-qemu/crun-qemu-init";
    let line = format!("{init}: not an executable (run make install again)");
    refused(&run(Form::Plugin), root.path(), Some(init), &line);
}
