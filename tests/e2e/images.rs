//! Container images and --rootfs directories: where a guest's writes go, and that the image itself is never copied.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::harness::{Form, Podman, Run, Vm, directory, guest, rootfs, run, source, text, tiny, unique};

/// A container image, gone with the value.
struct Image {
    podman: Podman,
    tag: String,
}

impl Image {
    /// A guest's disk, packaged by the utility.
    fn packaged(podman: Podman, disk: &Path) -> Self {
        let image = Self::named(podman);
        let mut command = podman.tool(source("util/package-vm-image.sh"));
        done(command.arg(disk).arg(&image.tag).output().unwrap());
        image
    }

    /// A name for one that is still to be made.
    fn named(podman: Podman) -> Self {
        Self { podman, tag: format!("localhost/{}", unique("crun-qemu-test")) }
    }

    /// `podman run` of it.
    fn run<'a>(&'a self, form: Form, what: &'a [&'a str], options: &'a [&'a str]) -> Run<'a> {
        Run { podman: self.podman, form, podman_options: &[], what, options }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.podman.output(&["rmi", "-f", &self.tag]);
    }
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).trim().to_string()
}

/// In the layer.
const OVERLAY: &str = ".crun-qemu/overlay.qcow2";

/// Bytes that a directory and all below it take.
fn usage(dir: &Path) -> u64 {
    let said = run("du", &["-s", "--block-size=1", dir.to_str().unwrap()]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// The bundle's private directory.
fn private_dir(vm: &Vm) -> PathBuf {
    Path::new(&vm.inspect("{{.StaticDir}}")).join("crun-qemu")
}

/// A stop, and a start to the guest's second boot.
pub fn stop_and_start(vm: &Vm) {
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
}

/// The guest mounts its disk a moment after it says that it is ready.
pub const MOUNTED: &str = "until grep -q ' /disk ' /proc/mounts; do usleep 100000; done";

/// Writes to the guest's disk.
pub fn write_marker(vm: &Vm, marker: &str) {
    let script = format!("{MOUNTED}; echo {marker} > /disk/marker && sync");
    vm.exec_ok(&["root", "sh", "-c", &script]);
}

/// What was written to it.
pub fn marker(vm: &Vm) -> String {
    vm.exec_ok(&["root", "sh", "-c", &format!("{MOUNTED}; cat /disk/marker")])
}

#[test]
fn a_container_image_is_not_copied_and_its_guests_writes_are_the_containers() {
    let disk = guest("tiny");
    let of_disk = std::fs::metadata(&disk).unwrap().len();
    let image = Image::packaged(Podman::Rootful, &disk);
    let what = [image.tag.as_str()];
    let vm = image.run(Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    let layer = PathBuf::from(vm.inspect("{{.GraphDriver.Data.UpperDir}}"));
    assert!(layer.join(OVERLAY).is_file());
    assert!(!private_dir(&vm).join("overlay.qcow2").exists());
    write_marker(&vm, "kept");
    assert_eq!(vm.stop(), 0);
    // A second file beside the image, and one in /, would make the choice of the image ambiguous, had it to be made.
    let dir = directory();
    let second = dir.path().join("second.img");
    std::fs::write(&second, [b'x'; 512]).unwrap();
    for to in ["/second.img", "/disk/second.img"] {
        vm.podman.ok(&["cp", second.to_str().unwrap(), &format!("{}:{to}", vm.name)]);
    }
    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
    assert_eq!(marker(&vm), "kept");
    assert_eq!(vm.stop(), 0);

    let size: u64 = vm.podman.ok(&["inspect", "--size", "--format", "{{.SizeRw}}", &vm.name]).parse().unwrap();
    let most = 4 << 20;
    assert!(of_disk > most, "the image is too small to tell");
    assert!(size < most && usage(&layer) < most, "{size} and {} bytes", usage(&layer));
    commits(&vm);

    let private = private_dir(&vm);
    vm.podman.ok(&["rm", &vm.name]);
    assert!(!layer.exists() && !private.exists());
}

/// An image made of a container: its VMs find the disk as that one left it, and each goes its own way from there.
fn commits(vm: &Vm) {
    let image = Image::named(vm.podman);
    vm.podman.ok(&["commit", "-q", &vm.name, &image.tag]);
    let what = [image.tag.as_str()];
    let (status, message) = image.run(Form::BuildTree, &what, &["--format", "raw"]).refused();
    let line = "qemu: --format: the container's disk was made on a qcow2 image (make a new container)";
    assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
    let committed = image.run(Form::BuildTree, &what, &[]).detached();
    committed.wait_for("TINY READY", 1);
    assert_eq!(marker(&committed), "kept");
    write_marker(&committed, "changed");
    stop_and_start(&committed);
    assert_eq!(marker(&committed), "changed");
    let sibling = image.run(Form::BuildTree, &what, &["--disk-size", "1G"]).detached();
    let console = sibling.wait_for("TINY READY", 1);
    assert!(console.contains("tiny: disk vda 1073741824 bytes writable"), "{console}");
    assert_eq!(marker(&sibling), "kept");
    let (status, message) = image.run(Form::BuildTree, &what, &["--persistent"]).refused();
    let line = "qemu: --persistent: what is written to this root ends with the container \
                (put the image into a directory and give that by --rootfs DIR)";
    assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
}

#[test]
fn a_container_image_rootless() {
    let image = Image::packaged(Podman::Rootless, &guest("tiny"));
    let what = [image.tag.as_str()];
    let vm = image.run(Form::BuildTree, &what, &[]).detached();
    vm.wait_for("TINY READY", 1);
    write_marker(&vm, "kept");
    stop_and_start(&vm);
    assert_eq!(marker(&vm), "kept");
    assert!(!private_dir(&vm).join("overlay.qcow2").exists(), "the writes are not in the container's layer");
}

#[test]
fn a_rootfs_directory_stays_as_it_is() {
    let root = rootfs(Podman::Rootful, "tiny");
    let disk = root.path().join("disk.qcow2");
    let before = std::fs::metadata(&disk).unwrap();
    let path = root.path().to_str().unwrap();
    let vm = tiny(Podman::Rootful, Form::BuildTree, &["--rootfs", path], &[]).detached();
    vm.wait_for("TINY READY", 1);
    write_marker(&vm, "kept");
    assert!(private_dir(&vm).join("overlay.qcow2").is_file());
    assert_eq!(vm.stop(), 0);
    // Which file it was is recorded.
    std::fs::write(root.path().join("second.img"), [b'x'; 512]).unwrap();
    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
    assert_eq!(marker(&vm), "kept");
    assert_eq!(vm.stop(), 0);
    let after = std::fs::metadata(&disk).unwrap();
    assert_eq!((before.len(), before.mtime_nsec()), (after.len(), after.mtime_nsec()), "the image was written");
    assert!(!root.path().join(".crun-qemu").exists());
    let private = private_dir(&vm);
    assert!(private.is_dir());
    vm.podman.ok(&["rm", &vm.name]);
    assert!(!private.exists());
}

/// The guest's disk as a raw file of this many bytes, sparse, in a root of its own.
fn raw_root(size: u64) -> tempfile::TempDir {
    let dir = directory();
    let raw = dir.path().join("disk.img");
    run("qemu-img", &["convert", "-O", "raw", guest("tiny").to_str().unwrap(), raw.to_str().unwrap()]);
    let file = std::fs::OpenOptions::new().write(true).open(&raw).unwrap();
    file.set_len(size.max(file.metadata().unwrap().len())).unwrap();
    dir
}

#[test]
fn raw_images_of_any_size_start_alike() {
    let (small, large) = (raw_root(0), raw_root(10 << 30));
    let start = |root: &tempfile::TempDir, options: &[&str]| {
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options };
        let begun = Instant::now();
        (run.detached(), begun.elapsed())
    };
    let fastest = |root| (0..3).map(|_| start(root, &[]).1).min().unwrap();
    // The first start of all may fill the host's cache of what QEMU can do.
    drop(start(&small, &[]));
    let (of_small, of_large): (Duration, Duration) = (fastest(&small), fastest(&large));
    assert!(of_large < of_small * 3, "{of_small:?}, and {of_large:?} for 10 GiB");

    let (vm, _) = start(&large, &["--format", "raw"]);
    let console = vm.wait_for("TINY READY", 1);
    assert!(console.contains("tiny: disk vda 10737418240 bytes writable"), "{console}");
    let overlay = std::fs::metadata(private_dir(&vm).join("overlay.qcow2")).unwrap();
    assert!(overlay.blocks() * 512 < 4 << 20, "{} blocks", overlay.blocks());
    drop(vm);

    let (vm, _) = start(&small, &[]);
    vm.wait_for("TINY READY", 1);
}

#[test]
fn a_format_that_the_image_does_not_have_is_refused() {
    let root = raw_root(0);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--format", "qcow2"];
    let run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &options };
    let (status, message) = run.refused();
    assert!(status != Some(0) && message.contains("qemu: /disk.img: "), "{status:?} {message}");
}

/// What an image can bring where a committed one has our own: none of it leads to a file of the host's.
#[test]
fn an_image_that_brings_a_private_directory_reaches_nothing() {
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
        let (status, message) = image.run(Form::BuildTree, &[&image.tag], &["--firmware", "bios"]).refused();
        assert!(
            status != Some(0) && message.contains("qemu: ") && message.contains(why),
            "{why}: {status:?} {message}"
        );
    }
    assert!(!Path::new("/etc/overlay.qcow2").exists() && !Path::new("/etc/record.json").exists());
}
