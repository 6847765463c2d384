//! systemd, cloud-init and Ignition may all get the list of mounts, and yet each mount is made once.

use std::fs;

use crate::harness::{Dir, Vm, directory, text};

/// No mount point has two mounts of the same kind.
#[track_caller]
pub fn mounted_once(vm: &Vm) {
    let script = r"awk '/ - virtiofs | - tmpfs crun-qemu / { print $5 }' /proc/self/mountinfo | sort | tee /dev/stderr | uniq -d";
    let output = vm.exec(&["root", "sh", "-c", script]);
    let (twice, mounts) = (text(&output.stdout), text(&output.stderr));
    assert!(twice.is_empty() && mounts.lines().count() > 7, "{mounts}");
}

/// User-data that makes all mounts of systemd's credentials early, as systemd itself does from version 254 on.
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

/// A seed directory with this user-data.
pub fn early() -> Dir {
    let dir = directory();
    fs::write(dir.join("user-data"), EARLY).unwrap();
    dir
}

/// Mount points of the early mounts.
#[track_caller]
pub fn were_early(vm: &Vm) -> String {
    vm.exec_ok(&["root", "cat", "/run/early-mounts"])
}
