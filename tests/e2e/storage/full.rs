//! Full storage on the host: the VM waits for space, reports it, and loses nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::harness::{
    Dir, Form, LABEL, MOUNTED, Mounted, Podman, Run, Vm, directory, eventually, rootfs, run, text, unique,
};

const MEBIBYTE: u64 = 1 << 20;

/// A file system of 48 MiB with a file that can be removed to free space.
pub(super) struct Small {
    _mounted: Mounted,
    dir: Dir,
}

impl Small {
    pub(super) fn new() -> Self {
        let dir = directory();
        let (file, target) = (dir.join("file"), dir.join("mounted"));
        fs::File::create(&file).unwrap().set_len(48 * MEBIBYTE).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", file.to_str().unwrap()]);
        fs::create_dir(&target).unwrap();
        Self { _mounted: Mounted::new(&["-o", "loop"], &file, &target), dir }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join("mounted").join(name)
    }

    /// Leaves `room` bytes free, and some thousand more.
    pub(super) fn fill(&self, room: u64) {
        let free = run("stat", &["-f", "-c", "%a %S", self.path("").to_str().unwrap()]);
        let (blocks, size) = free.split_once(' ').unwrap();
        let free = blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap();
        let filler = fs::File::create(self.path("filler")).unwrap();
        fallocate(filler, FallocateFlags::empty(), 0, (free - room) as i64).unwrap();
    }

    /// Unmounts it and mounts it again, as after a repair.
    pub(super) fn mount_again(&self) {
        let (file, target) = (self.dir.at("file"), self.dir.at("mounted"));
        run("umount", &[&target]);
        run("mount", &["-o", "loop", &file, &target]);
    }

    pub(super) fn free_space(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

pub(super) fn state(vm: &Vm) -> (String, Option<String>) {
    let status = vm.status_json();
    (status["state"].as_str().unwrap().into(), status["reason"].as_str().map(Into::into))
}

/// The guest's disk and a further disk are on small file systems. When the second fills up, space is freed; when the
/// first does, the VM is stopped.
#[test]
fn vm_waits_for_space_on_the_host() {
    let (disks, bundles, root) = (Small::new(), Small::new(), rootfs(Podman::Rootful, "tiny"));
    let image = run("sha256sum", &[root.join("disk.qcow2").to_str().unwrap()]);
    fs::File::create(disks.path("data.raw")).unwrap().set_len(64 * MEBIBYTE).unwrap();
    let volume = format!("{}:/data.raw", disks.path("data.raw").display());
    // podman's log needs a file system with space.
    let logs = directory();
    let log = format!("path={}", logs.join("log").display());
    let run_it = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &["-v", &volume, "--log-driver", "k8s-file", "--log-opt", &log],
        what: &root.as_root(),
        options: &["--blockdev", "source=/data.raw,target=/dev/data,format=raw"],
    };
    let name = unique(LABEL);
    let mut args = run_it.args(&name);
    args[0] = "create".into();
    Podman::Rootful.ok(&args);
    let bundle = Podman::Rootful.ok(&["inspect", "--format", "{{.StaticDir}}", &name]);
    run("cp", &["-a", &bundle, bundles.path("bundle").to_str().unwrap()]);
    let _bundle = Mounted::new(&["--bind"], &bundles.path("bundle"), Path::new(&bundle));
    // Declared last, thus dropped first: podman can remove the content of a mount point but not the mount point.
    let vm = Vm { podman: Podman::Rootful, name };
    vm.start();
    let write = "head -c 8388608 /dev/urandom > /tmp/r; head -c 1048576 /tmp/r > /disk/kept; sync";
    vm.guest_sh(&format!("{MOUNTED}; {write}"));
    let kept = vm.exec_ok(&["root", "sha256sum", "/disk/kept"]);

    vm_continues_with_space(&disks, &vm);
    assert_eq!(vm.exec_ok(&["root", "sha256sum", "/disk/kept"]), kept);
    stop_without_space_has_a_reason(&bundles, &vm);

    vm.start();
    assert_eq!(vm.guest_sh(&format!("{MOUNTED}; sha256sum /disk/kept")), kept);
    assert_eq!(vm.stop(), 0);
    // The mount point itself is busy to podman now and then; the container and all of its files are gone all the same.
    let removed = vm.podman.output(&["rm", &vm.name]);
    let stderr = text(&removed.stderr);
    assert!(removed.status.success() || stderr.contains("userdata: device or resource busy"), "{stderr}");
    assert!(!vm.podman.output(&["container", "exists", &vm.name]).status.success());
    assert_eq!(fs::read_dir(bundles.path("bundle")).unwrap().count(), 0, "left behind");
    assert_eq!(run("sha256sum", &[root.join("disk.qcow2").to_str().unwrap()]), image);
}

pub(super) const FULL: &str = "the host's storage is full";

fn vm_continues_with_space(small: &Small, vm: &Vm) {
    small.fill(24 * MEBIBYTE);
    let write = "for i in 1 2 3 4 5; do cat /tmp/r; done | dd of=/dev/vdc bs=64k conv=fsync 2>&1";
    let mut writing = vm.exec_command(&[], &["root", "sh", "-c", write]).stdout(Stdio::piped()).spawn().unwrap();
    let line = format!(
        "qemu: disk vdc: {FULL}: the VM is paused (it goes on by itself as soon as it can; podman stop ends it)"
    );
    eventually("the full disk is reported", || vm.logs().contains(&line));
    assert_eq!(state(vm), ("paused".into(), Some(format!("disk vdc: {FULL}"))));
    let table = vm.status();
    assert!(table.contains(&format!("state        paused (disk vdc: {FULL})\n")), "{table}");
    // The supervisor tries to continue again and again but logs the pause once. An exec prints what it waits for.
    let mut exec = vm.exec_command(&[], &["root", "echo", "up again"]);
    let exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(vm.logs().matches("qemu: disk vdc").count(), 1, "{}", vm.logs());
    assert!(writing.try_wait().unwrap().is_none(), "the guest got an error");

    small.free_space();
    let exec = exec.wait_with_output().unwrap();
    let waited = format!("(the VM is paused: disk vdc: {FULL})");
    assert!(exec.stdout == b"up again\n" && text(&exec.stderr).contains(&waited), "{exec:?}");
    let written = writing.wait_with_output().unwrap();
    assert!(written.status.success(), "{}", text(&written.stdout));
    eventually("the end of the pause is reported", || {
        vm.logs().contains("qemu: disk vdc: the host's storage has room again: the VM")
    });
    eventually("the VM runs", || state(vm) == ("running".into(), None));
    let sum = vm.guest_sh("for i in 1 2 3 4 5; do cat /tmp/r; done | sha256sum");
    let data = small.path("data.raw");
    assert_eq!(run("sh", &["-c", &format!("head -c 41943040 {} | sha256sum", data.display())]), sum, "lost on the way");
    assert!(!vm.exec_ok(&["root", "dmesg"]).contains("I/O error"), "the guest got an error");
}

/// `podman stop` of a VM that waits for space does not end cleanly, and the reason is logged.
fn stop_without_space_has_a_reason(small: &Small, vm: &Vm) {
    small.fill(3 * MEBIBYTE);
    // The exec must end first: podman waits for a file about its end, for which there would be no space either.
    let write = "(sleep 5; cat /tmp/r > /disk/more; sync) > /dev/null 2>&1 &";
    vm.guest_sh(write);
    eventually("the full disk is reported", || {
        vm.logs().contains(&format!("qemu: disk vda: {FULL}: the VM is paused"))
    });
    assert_eq!(vm.stop(), 1);
    let logs = vm.logs();
    for line in [
        format!(
            "qemu: stop: disk vda: {FULL} (the guest can shut down if that is mended within 5 s; else it is ended as it is)"
        ),
        format!(
            "qemu: the VM: it was stopped while it was paused: disk vda: {FULL} (what the guest had on its disks is kept, \
             what it was about to write is lost"
        ),
    ] {
        assert!(logs.contains(&line), "{line}:\n{logs}");
    }
    assert!(!logs.contains("qemu: libvirt: "), "{logs}");
    small.free_space();
}
