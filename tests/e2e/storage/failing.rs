//! Storage of the host that is full or fails below an image's own writes and a container image's layer.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::full::{FULL, Small, state};
use crate::harness::{
    Dir, Form, LABEL, MOUNTED, Mounted, Podman, Run, Traces, Vm, directory, eventually, guest, rootfs, run, text,
    unique,
};

const MEBIBYTE: u64 = 1 << 20;
/// Random data, more of it than the full file systems have space for.
const MAKE_DATA: &str = "head -c 8388608 /dev/urandom > /tmp/data";

/// podman's log needs a file system with space.
fn log(dir: &Dir) -> String {
    format!("path={}", dir.at("log"))
}

/// The guest writes more than there is space for; the VM waits for space and loses nothing, then is stopped without.
fn waits_for_space(vm: &Vm, small: &Small) {
    let traces = Traces::of(vm);
    vm.guest_sh(&format!("{MOUNTED}; {MAKE_DATA}; echo kept > /disk/marker; sync"));
    let reports = || vm.logs().matches(&format!("qemu: disk vda: {FULL}: the VM is paused")).count();
    small.fill(3 * MEBIBYTE);
    let mut writing = vm.exec_command(&[], &["root", "sh", "-c", "cp /tmp/data /disk/data && sync"]).spawn().unwrap();
    eventually("the full disk is reported", || reports() == 1);
    assert_eq!(state(vm), ("paused".into(), Some(format!("disk vda: {FULL}"))));
    small.free_space();
    assert!(writing.wait().unwrap().success());
    eventually("the VM runs", || state(vm) == ("running".into(), None));
    vm.guest_sh("sync; echo 3 > /proc/sys/vm/drop_caches; cmp /tmp/data /disk/data");

    small.fill(3 * MEBIBYTE);
    vm.guest_sh("(sleep 3; cp /tmp/data /disk/more; sync) > /dev/null 2>&1 &");
    eventually("the full disk is reported again", || reports() == 2);
    assert_eq!(vm.stop(), 1);
    assert!(vm.logs().contains(&format!("qemu: the VM: it was stopped while it was paused: disk vda: {FULL}")));
    traces.assert_ended();
    small.free_space();
    vm.start();
    assert_eq!(vm.marker(), "kept");
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["rm", &vm.name]);
    traces.assert_removed();
}

#[test]
fn vm_with_a_persistent_image_waits_for_space() {
    let (small, logs) = (Small::new(), directory());
    let log = log(&logs);
    let root = small.path("root");
    fs::create_dir(&root).unwrap();
    fs::copy(guest("tiny"), root.join("disk.qcow2")).unwrap();
    let podman_options = ["--log-driver", "k8s-file", "--log-opt", &log];
    let what = ["--rootfs", root.to_str().unwrap()];
    let (podman, form) = (Podman::Rootful, Form::BuildTree);
    let run = Run { podman, form, podman_options: &podman_options, what: &what, options: &["--persistent"] };
    waits_for_space(&run.detached(), &small);
}
