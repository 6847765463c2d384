//! Limits of shared directories and disks: manual mounts, virtiofsd's versions and failures, many disks, and mounts
//! that cannot be passed to a guest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    Dir, FORMS, Form, Loop, PATIENCE, Podman, Run, Vm, assert_refused, directory, eventually_within, guest,
    host_script, run, source, start,
};

/// Mounts the directory in the guest, which has no set-up of its own, and copies a file both ways.
#[track_caller]
fn mounts_by_hand(vm: &Vm, shared: &Path) {
    fs::write(shared.join("from-host"), "host").unwrap();
    let script = "modprobe virtiofs; mkdir -p /home/fedora/util; \
                  mount -t virtiofs /home/fedora/util /home/fedora/util && cd /home/fedora/util && \
                  cat from-host && echo guest > from-guest && for i in $(seq 200); do mkdir d$i; : > d$i/f; done; ls | wc -l";
    assert_eq!(vm.guest_sh(script), "host202");
    assert_eq!(fs::read_to_string(shared.join("from-guest")).unwrap(), "guest\n");
    assert!(shared.join("d200/f").exists());
}

#[test]
fn guest_survives_its_virtiofsd() {
    let shared = directory();
    let volume = format!("{}:/home/fedora/util", shared.path().display());
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &["-v", &volume], &[]);
    mounts_by_hand(&vm, shared.path());
    // One process serves one directory.
    let processes = vm.container_sh("cat /proc/[0-9]*/comm | sort | uniq -c | grep virtiofsd");
    assert!(processes.trim().starts_with("1 "), "{processes}");
    vm.container_sh("for p in /proc/[0-9]*; do ! grep -q virtiofsd $p/comm || kill -9 ${p#/proc/}; done");
    let line = "qemu: virtiofsd of /home/fedora/util: it was killed by SIGKILL (the guest is without it";
    eventually_within(PATIENCE, line, || vm.logs().contains(line));
    assert_eq!(vm.exec_ok(&["root", "echo", "alive"]), "alive");
}

/// A runtime that finds `program` in place of the host's virtiofsd.
fn with_virtiofsd(dir: &Dir, program: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c '\
         for p in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do [ ! -e $p ] || mount --bind {program} $p; done\n\
         exec {} \"$@\"' sh \"$@\"\n",
        env!("CARGO_BIN_EXE_crun-qemu"),
    );
    host_script(dir, "runtime", &script)
}

#[test]
fn rust_virtiofsd_works() {
    let program = run(source("util/build-virtiofsd.sh").to_str().unwrap(), &[]);
    let (dir, shared) = (directory(), directory());
    let runtime = with_virtiofsd(&dir, &program);
    let volume = format!("{}:/home/fedora/util", shared.path().display());
    let limits = ["--ulimit", "nofile=8192:8192", "--ulimit", "nproc=1024:1024"];
    let options = [&["--runtime", runtime.to_str().unwrap(), "-v", &volume], &limits[..]].concat();
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &options, &[]);
    mounts_by_hand(&vm, shared.path());
    let status = vm.status();
    assert!(status.contains("\nvirtiofsd    virtiofsd 1."), "{status}");
}

#[test]
fn failing_virtiofsd_ends_the_start_with_a_reason() {
    let (dir, shared) = (directory(), directory());
    let runtime = with_virtiofsd(&dir, "/bin/false");
    let volume = format!("{}:/srv", shared.path().display());
    let (vm, _root) =
        start(Podman::Rootful, Form::BuildTree, &["--runtime", runtime.to_str().unwrap(), "-v", &volume], &[]);
    assert_eq!(vm.wait(), 1);
    let logs = vm.logs();
    assert!(logs.contains("virtiofsd of /srv: it ended with status 1"), "{logs}");
}

/// More disks than letters for their names.
#[test]
fn thirty_disks_are_attached_in_order() {
    let images = directory();
    let (mut volumes, mut blockdevs) = (Vec::new(), Vec::new());
    for n in 0..30 {
        let path = images.join(&format!("{n:02}"));
        fs::File::create(&path).unwrap().set_len((n + 1) << 20).unwrap();
        volumes.extend(["-v".to_owned(), format!("{}:/i/{n:02}", path.display())]);
        blockdevs.extend(["--blockdev".to_owned(), format!("source=/i/{n:02},target=/dev/d{n:02},format=raw")]);
    }
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    let blockdevs: Vec<&str> = blockdevs.iter().map(String::as_str).collect();
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &volumes, &blockdevs);
    let script = "for s in /sys/block/vd*/serial; do d=${s%/serial}; echo $(cat $s) $(($(cat $d/size) / 2048)); done | \
                  grep crun-qemu- | sort -t- -k3n | tr '\\n' ' '";
    let want: String = (0..30).map(|n| format!("crun-qemu-{n} {} ", n + 1)).collect();
    assert_eq!(vm.guest_sh(script), want.trim());
}

#[test]
fn unusable_mounts_and_devices_are_refused() {
    let dir = directory();
    let path = |name: &str| dir.at(name);
    fs::create_dir(path("dir")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    run("mkfifo", &[&path("fifo")]);
    fs::File::create(path("raw")).unwrap().set_len(1 << 20).unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", &path("qcow2"), "1M"]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &path("raw"), &path("backed")]);
    run("qemu-img", &["create", "-q", "-f", "vmdk", &path("vmdk"), "1M"]);
    let read_only_loop = Loop::with(&["-r"], &dir.join("raw"));
    let read_only = &read_only_loop.0;
    let v = |name: &str, rest: &str| format!("{}:{rest}", path(name));
    let device = format!("{read_only}:/dev/x");
    let long = format!("/{}", "n".repeat(256));
    let blockdev = |source: &str, rest: &str| format!("source={source},target=/x,format={rest}");
    // podman's options, the VM's options, and the error line.
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
            "--device /dev/fuse: a host character device has no meaning in a guest \
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
    fs::copy(guest("tiny"), root.join("disk.qcow2")).unwrap();
    let what = root.as_root();
    for (podman_options, options, line) in &table {
        let podman_options: Vec<&str> = podman_options.iter().map(String::as_str).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        for form in FORMS {
            let run =
                Run { podman: Podman::Rootful, form, podman_options: &podman_options, what: &what, options: &options };
            assert_refused(&run, root.path(), None, line);
        }
    }
}
