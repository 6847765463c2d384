//! A VM from its first byte to its last, in every form.

use crate::harness::{Form, Podman, rootfs, tiny};

/// Boot, stop, start again on the same disk, removal.
fn life(podman: Podman, form: Form) {
    let root = rootfs(podman, "tiny");
    let vm = tiny(podman, form, &["--rootfs", root.path().to_str().unwrap()], &[]).detached();
    let first = vm.wait_for("TINY READY", 1);
    assert!(first.contains("SeaBIOS"), "the firmware's first lines are missing:\n{first}");
    assert_eq!(vm.stop(), 0);
    podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
    assert_eq!(vm.stop(), 0);
    let mut names: Vec<_> = std::fs::read_dir(root.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["disk.qcow2", "etc"], "something besides podman's own was written to the --rootfs directory");
}

#[test]
fn the_runtime_executable_from_the_build_tree() {
    life(Podman::Rootful, Form::BuildTree);
}

#[test]
fn the_runtime_executable_rootless() {
    life(Podman::Rootless, Form::Executable);
}

#[test]
fn the_plugin() {
    life(Podman::Rootful, Form::Plugin);
}
