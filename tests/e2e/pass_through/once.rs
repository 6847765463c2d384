//! More than one of systemd, cloud-init and Ignition may be told what to mount, and each thing is mounted once.

use std::fs;

use tempfile::TempDir;

use crate::harness::{Vm, directory, text};

/// Nothing lies on top of another of its kind.
#[track_caller]
pub fn mounted_once(vm: &Vm) {
    let script = r"awk '/ - virtiofs | - tmpfs crun-qemu / { print $5 }' /proc/self/mountinfo | sort | tee /dev/stderr | uniq -d";
    let output = vm.exec(&["root", "sh", "-c", script]);
    let (twice, mounts) = (text(&output.stdout), text(&output.stderr));
    assert!(twice.is_empty() && mounts.lines().count() > 7, "{mounts}");
}

/// User-data that mounts all that systemd's credentials tell it to, as it does itself from 254 on, before our own set-up looks.
const EARLY: &str = r#"#cloud-config
bootcmd:
  - |
    tr '\0' '\n' < /sys/firmware/dmi/tables/DMI | sed -n 's/.*:fstab.extra=//p' | base64 -d > /run/early
    while read -r what at kind options _; do
        at=$(printf %b "$at")
        case $options in
            bind*) mkdir -p "${at%/*}"; : >> "$at" ;;
            *) mkdir -p "$at" ;;
        esac
        mount -t "$kind" -o "$(printf %b "$options" | sed 's/,x-systemd[^,]*//g')" "$(printf %b "$what")" "$at"
        echo "$at" >> /run/early-mounts
    done < /run/early
"#;

/// A seed with it.
pub fn early() -> TempDir {
    let dir = directory();
    fs::write(dir.path().join("user-data"), EARLY).unwrap();
    dir
}

/// What it has mounted.
#[track_caller]
pub fn were_early(vm: &Vm) -> String {
    vm.exec_ok(&["root", "cat", "/run/early-mounts"])
}
