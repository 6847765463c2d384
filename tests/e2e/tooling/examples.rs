//! The examples, run as users run them.

use std::fs;
use std::process::Stdio;

use crate::harness::{LABEL, Podman, rootfs, source, text};

/// stdout and stderr of an example, which must succeed and leave nothing behind.
#[track_caller]
fn example(podman: Podman, name: &str, guest: &str) -> (String, String) {
    let root = rootfs(podman, guest);
    let mut command = podman.tool("env");
    command.current_dir("/");
    command.arg(format!("RUNTIME={}", env!("CARGO_BIN_EXE_crun-qemu"))).arg(format!("LABEL={LABEL}"));
    command.arg(source(&format!("examples/{name}/run.sh"))).arg(root.path()).arg("--emulated");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {stdout}{stderr}");
    let own = |kind: &str| format!("{kind}crun-qemu-example-{name}");
    for (list, filter) in [
        (&["ps", "-a", "-q"][..], own("name=")),
        (&["pod", "ps", "-q"], own("name=")),
        (&["images", "-q"], own("reference=localhost/")),
    ] {
        assert_eq!(podman.ok(&[list, &["--filter", &filter]].concat()), "", "{list:?}");
    }
    (stdout, stderr)
}

#[track_caller]
fn prints(printed: &str, parts: &[&str]) {
    parts.iter().for_each(|want| assert!(printed.contains(want), "{want:?} is not in {printed:?}"));
}

#[test]
fn cloud_init_example_works() {
    prints(&example(Podman::Rootful, "cloud-init", "cloud").0, &["status: done", "cloud-init was here\n"]);
}

#[test]
fn shared_directory_example_works() {
    let parts = ["/srv/read-only virtiofs ro,", "from the host\na = 1\na secret", "from the guest\n"];
    prints(&example(Podman::Rootful, "shared-directory", "cloud").0, &parts);
}

#[test]
fn block_device_example_works() {
    prints(&example(Podman::Rootful, "block-device", "cloud").0, &["64M crun-qemu-0\n", "1G crun-qemu-1\n", "kept\n"]);
}

#[test]
fn ignition_example_works() {
    prints(&example(Podman::Rootful, "ignition", "ignition").0, &["Ignition was here\n"]);
}

#[test]
fn ssh_exec_example_works_rootless() {
    let parts = ["Linux ", "two words\n$HOME\nit's\n", "from the host\n", "exit status 7\n", "state        running\n"];
    prints(&example(Podman::Rootless, "ssh-exec", "tiny").0, &parts);
}

/// The example handles hosts with and without a mediated device.
#[test]
fn mdev_example_works() {
    let (stdout, stderr) = example(Podman::Rootful, "mdev", "tiny");
    if fs::read_dir("/sys/bus/mdev/devices").is_ok_and(|mut devices| devices.next().is_some()) {
        prints(&stdout, &["<hostdev mode=\"subsystem\" type=\"mdev\" model=\"vfio-pci\" managed=\"no\">"]);
    } else {
        prints(&stdout, &["this host has no mediated device"]);
        let line = "qemu: --vfio-pci-mdev /sys/bus/mdev/devices/c2e088ba-954f-11ec-8584-525400666f2b: no such device";
        prints(&stderr, &[line]);
    }
}

#[test]
fn kube_example_works() {
    let (stdout, _) = example(Podman::Rootful, "kube", "tiny");
    prints(&stdout, &["Linux "]);
    assert_eq!(stdout.trim().lines().last(), Some("0"), "the VM's exit status: {stdout}");
}

#[test]
fn quadlet_example_works() {
    prints(&example(Podman::Rootful, "quadlet", "tiny").0, &["Linux "]);
}

#[test]
fn ports_example_works() {
    prints(&example(Podman::Rootful, "ports", "tiny").0, &["\nHello from "]);
}
