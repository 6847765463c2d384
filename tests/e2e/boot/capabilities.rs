//! QEMU's capabilities: libvirt probes them once for the host, and containers get them from a cache.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::harness::{
    Form, LABEL, Podman, Run, directory, host_script, mount_namespace, rootfs, run, start, text, unique,
};

/// Debian's path of libvirt's QEMU driver.
const DRIVER: &str = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";
/// Debian's path of QEMU.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// The container gets the cached capabilities. Otherwise each start would probe QEMU, which takes longer than all the
/// rest.
#[test]
fn start_does_not_probe_qemu() {
    for podman in [Podman::Rootful, Podman::Rootless] {
        let (vm, _root) = start(podman, Form::BuildTree, &[], &[]);
        vm.wait_for("TINY READY", 1);
        let known = vm.exec_ok(&["-", "ls", "/crun-qemu/capabilities"]);
        assert!(known.ends_with(".xml"), "{podman:?}: {known}");
        assert_eq!(vm.exec_ok(&["-", "ls", "/run/v/cache/qemu/capabilities"]), known);
    }
}

/// Other distributions build libvirt with another name for QEMU's user.
#[test]
fn libvirt_with_user_qemu_probes_qemu() {
    let mut driver = fs::read(DRIVER).unwrap();
    // Other strings of the driver end like this one, and the linker has merged them with its end, which must stay.
    let (debian, fedora) = (b"\0libvirt-qemu\0", b"\0qemu\0\0\0\0qemu\0");
    let places: Vec<_> = (0..driver.len()).filter(|at| driver[*at..].starts_with(debian)).collect();
    let [place] = places[..] else { panic!("{places:?}: the user's name is not there exactly once") };
    driver[place..][..fedora.len()].copy_from_slice(fedora);

    let dir = directory();
    let (patched, scratch) = (dir.join("driver.so"), dir.join("scratch"));
    fs::write(&patched, driver).unwrap();
    let mut probe = mount_namespace(
        "mount --bind \"$1\" \"$2\"; exec /usr/local/libexec/crun-qemu/crun-qemu-init probe \"$3\" --emulated",
    );
    let output = probe.arg("sh").arg(&patched).arg(DRIVER).arg(&scratch).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(scratch.join("cache/qemu/capabilities")).unwrap().count(), 1);
}

/// The first start goes on without capabilities after a QEMU that does not answer, the next one does not wait again,
/// and no process of the probe is left.
#[test]
fn hanging_qemu_delays_one_start() {
    let dir = directory();
    run("chmod", &["777", dir.path().to_str().unwrap()]);
    let calls = dir.join("calls");
    let forever = format!("86400.{}", std::process::id());
    let script = format!("#!/bin/sh\nid -u >> {}\nexec sleep {forever}\n", calls.display());
    let qemu = host_script(&dir, "qemu", &script);
    let root = rootfs(Podman::Rootful, "tiny");
    let hidden = |command: &str| -> Output {
        let mut shell = mount_namespace(&format!("mount --bind {} {QEMU}; exec {command}", qemu.display()));
        shell.output().unwrap()
    };
    let mut notes = Vec::new();
    for turn in [1, 2] {
        let run_vm = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &["--rm"],
            what: &root.as_root(),
            options: &["--print-libvirt-xml"],
        };
        let words = run_vm.args(&unique(LABEL)).iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let output = hidden(&format!("podman {words}"));
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && printed.contains("<domain type=\"qemu\""), "{printed}");
        // One probe, by an ordinary user.
        assert_eq!(fs::read_to_string(&calls).unwrap(), "65534\n", "turn {turn}");
        notes = failures("no answer in 30 seconds");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!(run("sh", &["-c", &format!("pgrep -fc '^sleep {forever}' || :")]), "0");
    }
    let doctor = text(&hidden(&format!("{} doctor", env!("CARGO_BIN_EXE_crun-qemu"))).stdout);
    let file = notes.pop().unwrap();
    fs::remove_file(file).unwrap();
    // The doctor also asks QEMU for its version, without an answer.
    assert!(
        doctor.contains("warn  capabilities    libvirt could not ask QEMU what it can do: no answer in 30 seconds"),
        "{doctor}"
    );
}

/// Cached notes of failures with this text.
fn failures(why: &str) -> Vec<PathBuf> {
    let files = fs::read_dir("/var/cache/crun-qemu").unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "failed") && fs::read_to_string(path).unwrap() == why)
        .collect()
}
