//! `--persistent`: writes go to the image itself, from one VM at a time.

use std::fs;

use crate::harness::{Dir, Form, Podman, Run, assert_refused, directory, guest, run};

/// A root with a copy of the guest's disk, since other tests use the original.
pub fn root(podman: Podman, format: &str) -> Dir {
    let dir = directory();
    let disk = dir.join("disk.img");
    run("qemu-img", &["convert", "-O", format, guest("tiny").to_str().unwrap(), disk.to_str().unwrap()]);
    podman.own(dir.path());
    dir
}

/// The writes are there after a restart, in another VM with `--persistent`, and in one with an overlay.
fn image_has_the_writes(podman: Podman, form: Form, format: &str) {
    let root = root(podman, format);
    let what = root.as_root();
    let with = |options| Run { podman, form, podman_options: &[], what: &what, options };
    let (persistent, overlay) = (["--persistent", "--format", format], ["--format", format]);
    let used = "qemu: /disk.img: another VM uses it, and with --persistent it has to be the only one \
                (stop that one first)";

    let vm = with(&persistent).detached();
    vm.wait_for("TINY READY", 1);
    vm.write_marker("kept");
    assert!(!vm.private_dir().join("overlay.qcow2").exists());
    with(&persistent).fails_with(used);
    with(&overlay).fails_with("qemu: /disk.img: a VM with --persistent writes to it (stop that one first)");
    let disk = root.join("disk.img");
    let volume = format!("{}:/more.img", disk.display());
    let other = self::root(podman, "qcow2");
    let (other, podman_options) = (other.as_root(), ["-v", &volume]);
    for mode in ["on", "off"] {
        let blockdev = format!("source=/more.img,target=/dev/more,format={format},readonly={mode}");
        let options = ["--blockdev", &blockdev];
        let run = Run { podman, form, podman_options: &podman_options, what: &other, options: &options };
        run.fails_with("qemu: --blockdev source=/more.img: another VM uses it (stop that one first)");
    }
    vm.stop_and_start();
    assert_eq!(vm.marker(), "kept");
    assert_eq!(vm.stop(), 0);
    drop(vm);

    let before = fs::read(&disk).unwrap();
    let over = with(&overlay).detached();
    over.wait_for("TINY READY", 1);
    assert_eq!(over.marker(), "kept");
    over.write_marker("overlay");
    with(&persistent).fails_with(used);
    assert_eq!(over.stop(), 0);
    assert!(fs::read(&disk).unwrap() == before, "the image was written without being asked");

    let again = with(&persistent).detached();
    again.wait_for("TINY READY", 1);
    assert_eq!(again.marker(), "kept");
    again.write_marker("changed");
    assert_eq!(again.stop(), 0);
    // The overlay does not fit the changed image.
    let line = "qemu: /disk.img: the image has been written to since the container's disk was made on it \
                (make a new container)";
    over.start_fails_with(line);
}

#[test]
fn qcow2_image_has_the_writes_of_a_plugin_vm() {
    image_has_the_writes(Podman::Rootful, Form::Plugin, "qcow2");
}

#[test]
fn raw_image_has_the_writes_rootless() {
    image_has_the_writes(Podman::Rootless, Form::Executable, "raw");
}

#[test]
fn image_without_write_permission_is_refused() {
    let root = root(Podman::Rootless, "qcow2");
    run("chown", &["root", root.join("disk.img").to_str().unwrap()]);
    let (what, options) = (root.as_root(), ["--persistent"]);
    let (podman, form) = (Podman::Rootless, Form::Executable);
    let run = Run { podman, form, podman_options: &[], what: &what, options: &options };
    assert_refused(&run, root.path(), None, "--persistent: /disk.img: it may not be written to");
}
