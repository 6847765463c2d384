//! `--persistent`: the image itself takes the writes, of one VM at a time.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::bad_input::refused;
use crate::harness::{Form, Podman, Run, directory, guest, run, text};
use crate::images::{marker, stop_and_start, write_marker};

/// A root with a disk of its own: what else has that of the test guests must not find it changed.
pub fn root(podman: Podman, format: &str) -> TempDir {
    let dir = directory();
    let disk = dir.path().join("disk.img");
    run("qemu-img", &["convert", "-O", format, guest("tiny").to_str().unwrap(), disk.to_str().unwrap()]);
    podman.own(dir.path());
    dir
}

/// The writes of a VM are there when it is started again, in another VM, and below one with an overlay.
fn outlives_its_container(podman: Podman, form: Form, format: &str) {
    let root = root(podman, format);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let with = |options| Run { podman, form, podman_options: &[], what: &what, options };
    let (persistent, overlay) = (["--persistent", "--format", format], ["--format", format]);
    let run_refused = |run: Run, line| {
        let (status, message) = run.refused();
        assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
    };
    let is_refused = |options, line| run_refused(with(options), line);
    let used = "qemu: /disk.img: another VM uses it, and with --persistent it has to be the only one \
                (stop that one first)";

    let vm = with(&persistent).detached();
    vm.wait_for("TINY READY", 1);
    write_marker(&vm, "kept");
    assert!(!Path::new(&vm.inspect("{{.StaticDir}}")).join("crun-qemu/overlay.qcow2").exists());
    is_refused(&persistent, used);
    is_refused(&overlay, "qemu: /disk.img: a VM with --persistent writes to it (stop that one first)");
    let disk = root.path().join("disk.img");
    let volume = format!("{}:/more.img", disk.display());
    let other = self::root(podman, "qcow2");
    let (other, podman_options) = (["--rootfs", other.path().to_str().unwrap()], ["-v", &volume]);
    for mode in ["on", "off"] {
        let blockdev = format!("source=/more.img,target=/dev/more,format={format},readonly={mode}");
        let options = ["--blockdev", &blockdev];
        let run = Run { podman, form, podman_options: &podman_options, what: &other, options: &options };
        run_refused(run, "qemu: --blockdev source=/more.img: another VM uses it (stop that one first)");
    }
    stop_and_start(&vm);
    assert_eq!(marker(&vm), "kept");
    assert_eq!(vm.stop(), 0);
    drop(vm);

    let before = fs::read(&disk).unwrap();
    let over = with(&overlay).detached();
    over.wait_for("TINY READY", 1);
    assert_eq!(marker(&over), "kept");
    write_marker(&over, "overlay");
    is_refused(&persistent, used);
    assert_eq!(over.stop(), 0);
    assert!(fs::read(&disk).unwrap() == before, "the image was written without being asked");

    let again = with(&persistent).detached();
    again.wait_for("TINY READY", 1);
    assert_eq!(marker(&again), "kept");
    write_marker(&again, "changed");
    assert_eq!(again.stop(), 0);
    // Of the overlay's disk not much would be left whole.
    let output = podman.output(&["start", &over.name]);
    let line = "qemu: /disk.img: the image has been written to since the container's disk was made on it \
                (make a new container)";
    assert!(!output.status.success() && text(&output.stderr).contains(line), "{}", text(&output.stderr));
}

#[test]
fn a_qcow2_image_with_the_plugin() {
    outlives_its_container(Podman::Rootful, Form::Plugin, "qcow2");
}

#[test]
fn a_raw_image_rootless() {
    outlives_its_container(Podman::Rootless, Form::Executable, "raw");
}

#[test]
fn an_image_that_may_not_be_written_to() {
    let root = root(Podman::Rootless, "qcow2");
    run("chown", &["root", root.path().join("disk.img").to_str().unwrap()]);
    let (what, options) = (["--rootfs", root.path().to_str().unwrap()], ["--persistent"]);
    let (podman, form) = (Podman::Rootless, Form::Executable);
    let run = Run { podman, form, podman_options: &[], what: &what, options: &options };
    refused(&run, root.path(), None, "--persistent: /disk.img: it may not be written to");
}
