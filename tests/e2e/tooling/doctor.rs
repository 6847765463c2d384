//! `crun-qemu doctor`: its report of what the host has and lacks.

use std::process::{Command, Stdio};

use crate::harness::{Podman, mount_namespace, text};

const DOCTOR: &str = env!("CARGO_BIN_EXE_crun-qemu");

#[test]
fn doctor_reports_a_usable_host() {
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
fn doctor_reports_what_is_missing() {
    for (hide, line, status) in [
        (
            "mount --bind /dev/null /usr/bin/qemu-system-x86_64",
            "no    QEMU            QEMU: not installed (install the package",
            1,
        ),
        ("mount -t tmpfs none /etc", "no    system          /etc/ld.so.cache: not there, and by it", 1),
        ("mount --bind /dev/null /usr/bin/crun", "no    crun            not installed (install the package crun)", 1),
        ("mount --bind /dev/null /usr/bin/ssh", "warn  ssh             ssh: not installed (install the package", 0),
        (
            "mkdir -p /etc/crun-qemu; mount -t tmpfs none /etc/crun-qemu; echo x > /etc/crun-qemu/policy",
            "warn  policy          /etc/crun-qemu/policy line 1: \"x\" is not KEY = allow or KEY = deny",
            0,
        ),
    ] {
        let output = mount_namespace(&format!("{hide}; exec {DOCTOR} doctor")).output().unwrap();
        let lines = text(&output.stdout);
        assert!(lines.lines().any(|l| l.starts_with(line)), "{hide}: {lines}");
        assert_eq!(output.status.code(), Some(status), "{hide}: {lines}");
        assert_eq!(text(&output.stderr).starts_with("qemu: doctor: no VM runs here, because of "), status == 1);
    }
}
