//! A VM's life in every form of the runtime.

use crate::harness::{Form, Podman, start};

/// Boots a VM, stops it, starts it again on the same disk, and stops it.
fn starts_again_on_the_same_disk(podman: Podman, form: Form) {
    let (vm, root) = start(podman, form, &[], &[]);
    let first = vm.wait_for("TINY READY", 1);
    assert!(first.contains("SeaBIOS"), "the firmware's first lines are missing:\n{first}");
    vm.stop_and_start();
    assert_eq!(vm.stop(), 0);
    let mut names: Vec<_> = std::fs::read_dir(root.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["disk.qcow2", "etc"],
        "something other than podman's /etc was written to the --rootfs directory"
    );
}

#[test]
fn runtime_of_the_build_tree_boots_and_restarts() {
    starts_again_on_the_same_disk(Podman::Rootful, Form::BuildTree);
}

#[test]
fn installed_runtime_boots_and_restarts_rootless() {
    starts_again_on_the_same_disk(Podman::Rootless, Form::Executable);
}

#[test]
fn plugin_boots_and_restarts() {
    starts_again_on_the_same_disk(Podman::Rootful, Form::Plugin);
}
