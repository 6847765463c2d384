//! Directories and disks at the edges: a guest that mounts by hand, the other virtiofsd, its death, and many disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bad_input::refused;
use crate::harness::{Form, PATIENCE, Podman, Run, Vm, directory, guest, rootfs, run, source};

/// The tiny guest of the build tree, with a runtime of its own where `runtime` is given.
fn tiny(podman_options: &[&str], options: &[&str]) -> (Vm, TempDir) {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what: &what, options };
    (run.detached(), root)
}

/// Mounts by hand, as the guest does nothing by itself, and copies a file both ways.
#[track_caller]
fn mounts_by_hand(vm: &Vm, shared: &Path) {
    fs::write(shared.join("from-host"), "host").unwrap();
    let script = "modprobe virtiofs; mkdir -p /home/fedora/util; \
                  mount -t virtiofs /home/fedora/util /home/fedora/util && cd /home/fedora/util && \
                  cat from-host && echo guest > from-guest && for i in $(seq 200); do mkdir d$i; : > d$i/f; done; ls | wc -l";
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", script]), "host202");
    assert_eq!(fs::read_to_string(shared.join("from-guest")).unwrap(), "guest\n");
    assert!(shared.join("d200/f").exists());
}

#[test]
fn by_hand_and_when_virtiofsd_dies() {
    let shared = directory();
    let volume = format!("{}:/home/fedora/util", shared.path().display());
    let (vm, _root) = tiny(&["-v", &volume], &[]);
    mounts_by_hand(&vm, shared.path());
    // One process for one directory.
    let beside = vm.exec_ok(&["-", "sh", "-c", "cat /proc/[0-9]*/comm | sort | uniq -c | grep virtiofsd"]);
    assert!(beside.trim().starts_with("1 "), "{beside}");
    vm.exec_ok(&[
        "-",
        "sh",
        "-c",
        "for p in /proc/[0-9]*; do ! grep -q virtiofsd $p/comm || kill -9 ${p#/proc/}; done",
    ]);
    let deadline = Instant::now() + PATIENCE;
    while !vm.logs().contains("qemu: virtiofsd of /home/fedora/util: it was killed by SIGKILL (the guest is without it")
    {
        assert!(Instant::now() < deadline, "{}", vm.logs());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(vm.exec_ok(&["root", "echo", "alive"]), "alive");
}

/// A runtime in front of which `program` stands in the place of the host's virtiofsd.
fn with_virtiofsd(dir: &Path, program: &str) -> PathBuf {
    let runtime = dir.join("runtime");
    let script = format!(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c '\
         for p in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do [ ! -e $p ] || mount --bind {program} $p; done\n\
         exec {} \"$@\"' sh \"$@\"\n",
        env!("CARGO_BIN_EXE_crun-qemu"),
    );
    fs::write(&runtime, script).unwrap();
    run("chmod", &["755", runtime.to_str().unwrap()]);
    runtime
}

#[test]
fn with_the_virtiofsd_in_rust() {
    let program = run(source("util/build-virtiofsd.sh").to_str().unwrap(), &[]);
    let (dir, shared) = (directory(), directory());
    let runtime = with_virtiofsd(dir.path(), &program);
    let volume = format!("{}:/home/fedora/util", shared.path().display());
    let limits = ["--ulimit", "nofile=8192:8192", "--ulimit", "nproc=1024:1024"];
    let options = [&["--runtime", runtime.to_str().unwrap(), "-v", &volume], &limits[..]].concat();
    let (vm, _root) = tiny(&options, &[]);
    mounts_by_hand(&vm, shared.path());
    let status = vm.exec_ok(&["-", "crun-qemu-init", "status"]);
    assert!(status.contains("\nvirtiofsd    virtiofsd 1."), "{status}");
}

#[test]
fn a_virtiofsd_that_cannot_run() {
    let (dir, shared) = (directory(), directory());
    let runtime = with_virtiofsd(dir.path(), "/bin/false");
    let volume = format!("{}:/srv", shared.path().display());
    let (vm, _root) = tiny(&["--runtime", runtime.to_str().unwrap(), "-v", &volume], &[]);
    assert_eq!(vm.wait(), 1);
    let logs = vm.logs();
    assert!(logs.contains("virtiofsd of /srv: it ended with status 1"), "{logs}");
}

/// More than the letters go round.
#[test]
fn thirty_disks() {
    let images = directory();
    let (mut volumes, mut blockdevs) = (Vec::new(), Vec::new());
    for n in 0..30 {
        let path = images.path().join(format!("{n:02}"));
        fs::File::create(&path).unwrap().set_len((n + 1) << 20).unwrap();
        volumes.extend(["-v".to_owned(), format!("{}:/i/{n:02}", path.display())]);
        blockdevs.extend(["--blockdev".to_owned(), format!("source=/i/{n:02},target=/dev/d{n:02},format=raw")]);
    }
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let blockdevs: Vec<&str> = blockdevs.iter().map(String::as_str).collect();
    let (vm, _root) = tiny(&volumes, &blockdevs);
    let script = "for s in /sys/block/vd*/serial; do d=${s%/serial}; echo $(cat $s) $(($(cat $d/size) / 2048)); done | \
                  grep crun-qemu- | sort -t- -k3n | tr '\\n' ' '";
    let want: String = (0..30).map(|n| format!("crun-qemu-{n} {} ", n + 1)).collect();
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", script]), want.trim());
}

/// Each has its line and leaves nothing behind.
#[test]
fn what_cannot_be_passed_through() {
    let dir = directory();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("dir")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    run("mkfifo", &[&path("fifo")]);
    fs::File::create(path("raw")).unwrap().set_len(1 << 20).unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", &path("qcow2"), "1M"]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &path("raw"), &path("backed")]);
    run("qemu-img", &["create", "-q", "-f", "vmdk", &path("vmdk"), "1M"]);
    let read_only = run("losetup", &["-r", "-f", "--show", &path("raw")]);
    let v = |name: &str, rest: &str| format!("{}:{rest}", path(name));
    let device = format!("{read_only}:/dev/x");
    let long = format!("/{}", "n".repeat(256));
    let blockdev = |source: &str, rest: &str| format!("source={source},target=/x,format={rest}");
    // podman's options, ours, and the line.
    let table: Vec<(Vec<String>, Vec<String>, String)> = vec![
        (
            vec!["-v".into(), v("socket", "/x")],
            vec![],
            "mount /x: its source is a socket, which a guest cannot use".into(),
        ),
        (vec!["-v".into(), v("fifo", "/x")], vec![], "mount /x: its source is a fifo, which a guest cannot use".into()),
        (vec!["-v".into(), v("dir", "/proc/x")], vec![], "mount /proc/x: the guest has its own there".into()),
        (
            vec!["-v".into(), v("dir", &long)],
            vec![],
            format!("mount {long}: a name of 256 bytes, and no guest supports more than 255"),
        ),
        (
            vec!["--device".into(), "/dev/fuse".into()],
            vec![],
            "--device /dev/fuse: a character device of the host's means nothing in a guest \
             (block devices are passed as disks, PCI devices by --vfio-pci)"
                .into(),
        ),
        (
            vec!["--device".into(), device],
            vec![],
            "--device /dev/x: the block device is read-only, and writing was asked for (--device SOURCE:TARGET:r)"
                .into(),
        ),
        (
            vec!["-v".into(), format!("{read_only}:/x")],
            vec![],
            "mount /x: the block device is read-only, and writing was asked for (-v SOURCE:TARGET:ro)".into(),
        ),
        (
            vec![],
            vec!["--blockdev".into(), blockdev("/i", "raw")],
            "--blockdev source=/i: the engine granted no such file (-v FILE:/i)".into(),
        ),
        (
            vec!["-v".into(), v("dir", "/i")],
            vec!["--blockdev".into(), blockdev("/i", "raw")],
            "--blockdev source=/i: not a regular file (block devices need -v or --device alone)".into(),
        ),
        (
            vec!["-v".into(), v("raw", "/i:ro")],
            vec!["--blockdev".into(), blockdev("/i", "raw")],
            "--blockdev source=/i: the mount is read-only, and writing was asked for (readonly=on)".into(),
        ),
        (
            vec!["-v".into(), v("qcow2", "/i")],
            vec!["--blockdev".into(), blockdev("/i", "raw")],
            "--blockdev source=/i: declared raw, but it is a qcow2 image (format=qcow2)".into(),
        ),
        (
            vec!["-v".into(), v("raw", "/i")],
            vec!["--blockdev".into(), blockdev("/i", "qcow2")],
            "--blockdev source=/i: declared qcow2, but it is a raw image (format=raw)".into(),
        ),
        (
            vec!["-v".into(), v("backed", "/i")],
            vec!["--blockdev".into(), blockdev("/i", "qcow2")],
            format!(
                "--blockdev source=/i: the qcow2 image has a backing file, {:?} (make one file of it with `qemu-img convert -O qcow2` first)",
                path("raw")
            ),
        ),
        (
            vec!["-v".into(), v("vmdk", "/i")],
            vec!["--blockdev".into(), blockdev("/i", "vmdk")],
            "--blockdev: format \"vmdk\" is neither raw nor qcow2 (qemu-img convert makes one of it)".into(),
        ),
        (
            vec!["-v".into(), v("raw", "/i"), "-v".into(), v("dir", "/x")],
            vec!["--blockdev".into(), blockdev("/i", "raw")],
            "/x: two mounts or devices have this path in the guest".into(),
        ),
        (
            vec!["-v".into(), v("raw", "/i")],
            vec!["--blockdev".into(), "source=/i,target=x,format=raw".into()],
            "--blockdev: target \"x\" is not an absolute path (source=PATH,target=PATH,format=raw|qcow2[,readonly=on])"
                .into(),
        ),
    ];
    let root = directory();
    fs::copy(guest("tiny"), root.path().join("disk.qcow2")).unwrap();
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for (podman_options, options, line) in &table {
        let podman_options: Vec<&str> = podman_options.iter().map(String::as_str).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for form in [Form::BuildTree, Form::Plugin] {
            let run =
                Run { podman: Podman::Rootful, form, podman_options: &podman_options, what: &what, options: &options };
            refused(&run, root.path(), None, line);
        }
    }
    run("losetup", &["-d", &read_only]);
}
