//! A host whose storage is full: the VM waits for room, says so, and loses nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, run, text, unique};
use crate::images::MOUNTED;
use crate::lifecycle::eventually;

const MEBIBYTE: u64 = 1 << 20;

/// Something mounted; not so any more when this goes.
struct Mounted(PathBuf);

impl Mounted {
    fn new(options: &[&str], source: &Path, target: &Path) -> Self {
        run("mount", &[options, &[source.to_str().unwrap(), target.to_str().unwrap()]].concat());
        Self(target.into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // podman unmounts what is in its way when it removes a container.
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// A file system of 48 MiB, and a file in it that can be taken away to make room.
struct Small {
    _mounted: Mounted,
    dir: TempDir,
}

impl Small {
    fn new() -> Self {
        let dir = directory();
        let (file, target) = (dir.path().join("file"), dir.path().join("mounted"));
        fs::File::create(&file).unwrap().set_len(48 * MEBIBYTE).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", file.to_str().unwrap()]);
        fs::create_dir(&target).unwrap();
        Self { _mounted: Mounted::new(&["-o", "loop"], &file, &target), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mounted").join(name)
    }

    /// Leaves `room` bytes, and some thousand more.
    fn fill(&self, room: u64) {
        let free = run("stat", &["-f", "-c", "%a %S", self.path("").to_str().unwrap()]);
        let (blocks, size) = free.split_once(' ').unwrap();
        let free = blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap();
        let filler = fs::File::create(self.path("filler")).unwrap();
        fallocate(filler, FallocateFlags::empty(), 0, (free - room) as i64).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

fn state(vm: &Vm) -> (String, Option<String>) {
    let status = vm.exec_ok(&["-", "crun-qemu-init", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    (status["state"].as_str().unwrap().into(), status["reason"].as_str().map(Into::into))
}

/// The guest's disk and one more lie on the small file system. Both fill up; the guest goes on with one and is stopped
/// with the other.
#[test]
fn the_vm_waits_for_room() {
    let (disks, bundles, root) = (Small::new(), Small::new(), rootfs(Podman::Rootful, "tiny"));
    let image = run("sha256sum", &[root.path().join("disk.qcow2").to_str().unwrap()]);
    fs::File::create(disks.path("data.raw")).unwrap().set_len(64 * MEBIBYTE).unwrap();
    let volume = format!("{}:/data.raw", disks.path("data.raw").display());
    // podman's log has to lie where there is room.
    let logs = directory();
    let log = format!("path={}", logs.path().join("log").display());
    let run_it = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &["-v", &volume, "--log-driver", "k8s-file", "--log-opt", &log],
        what: &["--rootfs", root.path().to_str().unwrap()],
        options: &["--blockdev", "source=/data.raw,target=/dev/data,format=raw"],
    };
    let name = unique(LABEL);
    let mut args = run_it.args(&name);
    args[0] = "create".into();
    Podman::Rootful.ok(&args);
    let bundle = Podman::Rootful.ok(&["inspect", "--format", "{{.StaticDir}}", &name]);
    run("cp", &["-a", &bundle, bundles.path("bundle").to_str().unwrap()]);
    let _bundle = Mounted::new(&["--bind"], &bundles.path("bundle"), Path::new(&bundle));
    // Declared last: podman cannot remove a directory on which something is mounted, but what is in it.
    let vm = Vm { podman: Podman::Rootful, name };
    vm.podman.ok(&["start", &vm.name]);
    let write = "head -c 8388608 /dev/urandom > /tmp/r; head -c 1048576 /tmp/r > /disk/kept; sync";
    vm.exec_ok(&["root", "sh", "-c", &format!("{MOUNTED}; {write}")]);
    let kept = vm.exec_ok(&["root", "sha256sum", "/disk/kept"]);

    goes_on_with_room(&disks, &vm);
    assert_eq!(vm.exec_ok(&["root", "sha256sum", "/disk/kept"]), kept);
    stops_without_room(&bundles, &vm);

    vm.podman.ok(&["start", &vm.name]);
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", &format!("{MOUNTED}; sha256sum /disk/kept")]), kept);
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["rm", &vm.name]);
    assert_eq!(fs::read_dir(bundles.path("bundle")).unwrap().count(), 0, "left behind");
    assert_eq!(run("sha256sum", &[root.path().join("disk.qcow2").to_str().unwrap()]), image);
}

const FULL: &str = "the host's storage is full";

fn goes_on_with_room(small: &Small, vm: &Vm) {
    small.fill(24 * MEBIBYTE);
    let write = "for i in 1 2 3 4 5; do cat /tmp/r; done | dd of=/dev/vdc bs=64k conv=fsync 2>&1";
    let mut writing = vm.exec_command(&[], &["root", "sh", "-c", write]).stdout(Stdio::piped()).spawn().unwrap();
    let line = format!(
        "qemu: disk vdc: {FULL}: the VM is paused (it goes on by itself as soon as it can; podman stop ends it)"
    );
    eventually("the full disk is told", || vm.logs().contains(&line));
    assert_eq!(state(vm), ("paused".into(), Some(format!("disk vdc: {FULL}"))));
    let table = vm.exec_ok(&["-", "crun-qemu-init", "status"]);
    assert!(table.contains(&format!("state        paused (disk vdc: {FULL})\n")), "{table}");
    // Many attempts to go on are in vain, and nobody is told of each. An exec says what it waits for.
    let mut exec = vm.exec_command(&[], &["root", "echo", "up again"]);
    let exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(vm.logs().matches("qemu: disk vdc").count(), 1, "{}", vm.logs());
    assert!(writing.try_wait().unwrap().is_none(), "the guest was told of an error");

    small.make_room();
    let exec = exec.wait_with_output().unwrap();
    let waited = format!("(the VM is paused: disk vdc: {FULL})");
    assert!(exec.stdout == b"up again\n" && text(&exec.stderr).contains(&waited), "{exec:?}");
    let written = writing.wait_with_output().unwrap();
    assert!(written.status.success(), "{}", text(&written.stdout));
    eventually("going on is told", || vm.logs().contains("qemu: disk vdc: the host's storage has room again: the VM"));
    eventually("it runs", || state(vm) == ("running".into(), None));
    let sum = vm.exec_ok(&["root", "sh", "-c", "for i in 1 2 3 4 5; do cat /tmp/r; done | sha256sum"]);
    let data = small.path("data.raw");
    assert_eq!(run("sh", &["-c", &format!("head -c 41943040 {} | sha256sum", data.display())]), sum, "lost on the way");
    assert!(!vm.exec_ok(&["root", "dmesg"]).contains("I/O error"), "the guest was told of an error");
}

/// `podman stop` while there is no room: no clean end, and it says why.
fn stops_without_room(small: &Small, vm: &Vm) {
    small.fill(3 * MEBIBYTE);
    // An exec must have ended by then: podman would wait for a file about its end, for which there is no room either.
    let write = "(sleep 5; cat /tmp/r > /disk/more; sync) > /dev/null 2>&1 &";
    vm.exec_ok(&["root", "sh", "-c", write]);
    eventually("the full disk is told", || vm.logs().contains(&format!("qemu: disk vda: {FULL}: the VM is paused")));
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
    small.make_room();
}
