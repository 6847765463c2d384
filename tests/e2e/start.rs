//! What every start would pay for if it went wrong.

use crate::harness::{Form, Podman, rootfs, tiny};

/// What libvirt knows of QEMU reaches the container; else each start asks QEMU, for longer than all the rest takes.
#[test]
fn no_start_asks_qemu_what_it_can_do() {
    for podman in [Podman::Rootful, Podman::Rootless] {
        let root = rootfs(podman, "tiny");
        let vm = tiny(podman, Form::BuildTree, &["--rootfs", root.path().to_str().unwrap()], &[]).detached();
        vm.wait_for("TINY READY", 1);
        let known = vm.exec_ok(&["-", "ls", "/crun-qemu/capabilities"]);
        assert!(known.ends_with(".xml"), "{podman:?}: {known}");
        assert_eq!(vm.exec_ok(&["-", "ls", "/run/v/cache/qemu/capabilities"]), known);
    }
}
