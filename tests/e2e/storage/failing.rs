//! Storage of the host that is full below an image with `--persistent`, and storage that fails.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::full::{FULL, Small, state};
use crate::harness::{Dir, Form, MOUNTED, Podman, Run, Traces, Vm, directory, eventually, guest, rootfs, run};

const MEBIBYTE: u64 = 1 << 20;
/// Random data, more of it than the full file systems have space for.
const MAKE_DATA: &str = "head -c 8388608 /dev/urandom > /tmp/data";

/// podman's log needs a file system with space.
fn log(dir: &Dir) -> String {
    format!("path={}", dir.at("log"))
}

/// The guest writes more than there is space for; the VM waits for space and loses nothing, then is stopped without.
fn waits_for_space(vm: &Vm, small: &Small) {
    vm.guest_sh(&format!("{MOUNTED}; {MAKE_DATA}; echo kept > /disk/marker; sync"));
    let traces = Traces::of(vm);
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

/// `FS_IOC_GOINGDOWN` of ext4 without its log: every access fails from now on, as on a disk that is gone.
fn fail(file_system: &Path) {
    const REQUEST: libc::c_ulong = 0x8004_587d;
    let dir = fs::File::open(file_system).unwrap();
    let flags: u32 = 2;
    // SAFETY: the request reads one u32, which outlives the call.
    assert_eq!(unsafe { libc::ioctl(dir.as_raw_fd(), REQUEST, &raw const flags) }, 0);
}

#[test]
fn vm_on_failing_storage_is_paused_and_starts_on_repaired_storage() {
    let (small, root) = (Small::new(), rootfs(Podman::Rootful, "tiny"));
    let image = run("sha256sum", &[&root.at("disk.qcow2")]);
    fs::File::create(small.path("data.raw")).unwrap().set_len(16 * MEBIBYTE).unwrap();
    let volume = format!("{}:/data.raw", small.path("data.raw").display());
    let options = ["--blockdev", "source=/data.raw,target=/dev/data,format=raw"];
    let vm = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &["-v", &volume],
        what: &root.as_root(),
        options: &options,
    }
    .detached();
    vm.write_marker("precious");
    vm.guest_sh("echo durable | dd of=/dev/vdc bs=512 conv=sync,fsync");
    let traces = Traces::of(&vm);
    run("sync", &["-f", small.path("").to_str().unwrap()]);
    fail(&small.path(""));
    vm.guest_sh("(head -c 1048576 /dev/urandom | dd of=/dev/vdc bs=64k seek=1 conv=fsync) > /dev/null 2>&1 &");
    let line = "qemu: disk vdc: the host cannot write to it: the VM is paused";
    eventually("the failure is reported", || vm.logs().contains(line));
    assert_eq!(state(&vm), ("paused".into(), Some("disk vdc: the host cannot write to it".into())));
    assert_eq!(vm.stop(), 1);
    let logs = vm.logs();
    let end = "qemu: the VM: it was stopped while it was paused: disk vdc: the host cannot write to it";
    assert!(logs.contains(end), "{logs}");
    traces.assert_ended();

    small.mount_again();
    vm.start();
    assert_eq!(vm.marker(), "precious");
    assert_eq!(vm.guest_sh("head -c 7 /dev/vdc"), "durable");
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["rm", &vm.name]);
    traces.assert_removed();
    assert_eq!(run("sha256sum", &[&root.at("disk.qcow2")]), image);
}
