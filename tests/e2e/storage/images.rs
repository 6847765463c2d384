//! Container images and --rootfs directories: where the guest's writes go. The image itself is never copied.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Dir, Form, Image, Podman, Run, Vm, directory, guest, rootfs, run, tiny};

/// The guest's disk in the container's layer.
const OVERLAY: &str = ".crun-qemu/overlay.qcow2";

/// Bytes that a directory occupies on disk.
fn usage(dir: &Path) -> u64 {
    let output = run("du", &["-s", "--block-size=1", dir.to_str().unwrap()]);
    output.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn writes_go_to_the_containers_layer_and_the_image_is_not_copied() {
    let disk = guest("tiny");
    let image_size = std::fs::metadata(&disk).unwrap().len();
    let image = Image::packaged(Podman::Rootful, &disk);
    let what = [image.tag.as_str()];
    let vm = image.run(Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    let layer = PathBuf::from(vm.inspect("{{.GraphDriver.Data.UpperDir}}"));
    assert!(layer.join(OVERLAY).is_file());
    assert!(!vm.private_dir().join("overlay.qcow2").exists());
    vm.write_marker("kept");
    assert_eq!(vm.stop(), 0);
    // Further files in / and /disk/ would make the choice of the image ambiguous, but it was recorded at the first
    // start.
    let dir = directory();
    let second = dir.join("second.img");
    std::fs::write(&second, [b'x'; 512]).unwrap();
    for to in ["/second.img", "/disk/second.img"] {
        vm.podman.ok(&["cp", second.to_str().unwrap(), &format!("{}:{to}", vm.name)]);
    }
    vm.start();
    vm.wait_for("TINY READY", 2);
    assert_eq!(vm.marker(), "kept");
    assert_eq!(vm.stop(), 0);

    let size: u64 = vm.podman.ok(&["inspect", "--size", "--format", "{{.SizeRw}}", &vm.name]).parse().unwrap();
    let most = 4 << 20;
    assert!(image_size > most, "the image is too small for this test");
    assert!(size < most && usage(&layer) < most, "{size} and {} bytes", usage(&layer));
    committed_image_has_the_disk(&vm);

    let private = vm.private_dir();
    vm.podman.ok(&["rm", &vm.name]);
    assert!(!layer.exists() && !private.exists());
}

/// VMs of an image that was committed from a container have its disk, each with its own writes.
fn committed_image_has_the_disk(vm: &Vm) {
    let image = Image::named(vm.podman);
    vm.podman.ok(&["commit", "-q", &vm.name, &image.tag]);
    let what = [image.tag.as_str()];
    let line = "qemu: --format: the container's disk was made on a qcow2 image (make a new container)";
    image.run(Form::BuildTree, &what, &["--format", "raw"]).fails_with(line);
    let committed = image.run(Form::BuildTree, &what, &[]).detached();
    committed.wait_for("TINY READY", 1);
    assert_eq!(committed.marker(), "kept");
    committed.write_marker("changed");
    committed.stop_and_start();
    assert_eq!(committed.marker(), "changed");
    let sibling = image.run(Form::BuildTree, &what, &["--disk-size", "1G"]).detached();
    let console = sibling.wait_for("TINY READY", 1);
    assert!(console.contains("tiny: disk vda 1073741824 bytes writable"), "{console}");
    assert_eq!(sibling.marker(), "kept");
    let line = "qemu: --persistent: what is written to this root ends with the container \
                (put the image into a directory and give that by --rootfs DIR)";
    image.run(Form::BuildTree, &what, &["--persistent"]).fails_with(line);
}

#[test]
fn writes_go_to_the_containers_layer_rootless() {
    let image = Image::packaged(Podman::Rootless, &guest("tiny"));
    let what = [image.tag.as_str()];
    let vm = image.run(Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    vm.write_marker("kept");
    vm.stop_and_start();
    assert_eq!(vm.marker(), "kept");
    assert!(!vm.private_dir().join("overlay.qcow2").exists(), "the writes are not in the container's layer");
}

#[test]
fn rootfs_directory_is_not_written() {
    let root = rootfs(Podman::Rootful, "tiny");
    let disk = root.join("disk.qcow2");
    let before = std::fs::metadata(&disk).unwrap();
    let path = root.path().to_str().unwrap();
    let vm = tiny(Podman::Rootful, Form::BuildTree, &["--rootfs", path], &[]).detached();
    vm.wait_for("TINY READY", 1);
    vm.write_marker("kept");
    assert!(vm.private_dir().join("overlay.qcow2").is_file());
    assert_eq!(vm.stop(), 0);
    // The choice of the image was recorded.
    std::fs::write(root.join("second.img"), [b'x'; 512]).unwrap();
    vm.start();
    vm.wait_for("TINY READY", 2);
    assert_eq!(vm.marker(), "kept");
    assert_eq!(vm.stop(), 0);
    let after = std::fs::metadata(&disk).unwrap();
    assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()), "the image was written");
    assert!(!root.join(".crun-qemu").exists());
    let private = vm.private_dir();
    assert!(private.is_dir());
    vm.podman.ok(&["rm", &vm.name]);
    assert!(!private.exists());
}

/// A root with the guest's disk as a sparse raw file of at least `size` bytes.
fn raw_root(size: u64) -> Dir {
    let dir = directory();
    let raw = dir.join("disk.img");
    run("qemu-img", &["convert", "-O", "raw", guest("tiny").to_str().unwrap(), raw.to_str().unwrap()]);
    let file = std::fs::OpenOptions::new().write(true).open(&raw).unwrap();
    file.set_len(size.max(file.metadata().unwrap().len())).unwrap();
    dir
}

#[test]
fn large_raw_image_starts_as_fast_as_a_small_one() {
    let (small, large) = (raw_root(0), raw_root(10 << 30));
    let start = |root: &Dir, options: &[&str]| {
        let what = root.as_root();
        let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options };
        let begun = Instant::now();
        (run.detached(), begun.elapsed())
    };
    let fastest = |root| (0..3).map(|_| start(root, &[]).1).min().unwrap();
    // The very first start may fill the host's cache of QEMU's capabilities.
    drop(start(&small, &[]));
    let (small_time, large_time): (Duration, Duration) = (fastest(&small), fastest(&large));
    assert!(large_time < small_time * 3, "{small_time:?}, and {large_time:?} for 10 GiB");

    let (vm, _) = start(&large, &["--format", "raw"]);
    let console = vm.wait_for("TINY READY", 1);
    assert!(console.contains("tiny: disk vda 10737418240 bytes writable"), "{console}");
    let overlay = std::fs::metadata(vm.private_dir().join("overlay.qcow2")).unwrap();
    assert!(overlay.blocks() * 512 < 4 << 20, "{} blocks", overlay.blocks());
    drop(vm);

    let (vm, _) = start(&small, &[]);
    vm.wait_for("TINY READY", 1);
}

#[test]
fn wrong_format_is_refused() {
    let root = raw_root(0);
    let what = root.as_root();
    let options = ["--format", "qcow2"];
    let run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &options };
    run.fails_with("qemu: /disk.img: ");
}

/// An image may contain `.crun-qemu`, as committed images do; none of its content leads to a file on the host.
#[test]
fn forged_private_directory_is_refused() {
    let backed = "qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw .crun-qemu/overlay.qcow2 1M";
    let record = |path: &str| format!("echo '{{\"image\":\"{path}\",\"format\":\"raw\"}}' > .crun-qemu/record.json");
    let (outside, relative) = (record("/etc/shadow"), record("/disk/../etc/shadow"));
    let cases = [
        ("rmdir .crun-qemu; ln -s /etc .crun-qemu", ".crun-qemu: not a directory"),
        ("ln -s /etc/shadow .crun-qemu/overlay.qcow2", "overlay.qcow2: not a regular file"),
        ("mkfifo .crun-qemu/overlay.qcow2", "overlay.qcow2: not a regular file"),
        ("ln -s /etc/shadow .crun-qemu/record.json", "record.json: not a regular file"),
        (backed, "overlay.qcow2: not an overlay over /crun-qemu/image (raw)"),
        (&outside, "/etc/shadow: not a file directly in / or /disk/"),
        (&relative, "/disk/../etc/shadow: not a file directly in / or /disk/"),
    ];
    for (make, why) in cases {
        let (dir, image) = (directory(), Image::named(Podman::Rootful));
        let make = format!(
            "cd {} && mkdir disk .crun-qemu && truncate -s 1M disk/x.img && {{ {make}; }} &&
            tar -c . | podman import -q - {}",
            dir.path().display(),
            image.tag
        );
        run("sh", &["-c", &make]);
        let (status, message) = image.run(Form::BuildTree, &[&image.tag], &["--firmware", "bios"]).foreground();
        assert!(
            status != Some(0) && message.contains("qemu: ") && message.contains(why),
            "{why}: {status:?} {message}"
        );
    }
    assert!(!Path::new("/etc/overlay.qcow2").exists() && !Path::new("/etc/record.json").exists());
}
