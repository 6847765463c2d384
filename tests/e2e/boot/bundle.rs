//! Bundles that the container's user, or anybody, has no rights in.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Form, Mounted, Podman, Traces, rootfs, run, start, tiny};

#[test]
fn bundle_closed_to_the_user_namespace_is_refused() {
    let root = rootfs(Podman::Rootful, "tiny");
    let ids = "0:300000:65536";
    let (what, podman_options) = (root.as_root(), ["--uidmap", ids, "--gidmap", ids]);
    tiny(Podman::Rootful, Form::BuildTree, &what, &podman_options).fails_with(
        "/userdata: root of the container's user namespace may not enter this directory (podman permits it for a \
         container image, but not with --rootfs)",
    );
}

/// podman cannot write its own configuration into such a bundle, so that its line comes first; a running VM needs only
/// its own mounts of the files in it.
#[test]
fn read_only_bundle_prevents_the_next_start_alone() {
    let (vm, root) = start(Podman::Rootful, Form::BuildTree, &[], &[]);
    let image = run("sha256sum", &[&root.at("disk.qcow2")]);
    vm.write_marker("precious");
    let bundle = vm.inspect("{{.StaticDir}}");
    let bundle = Path::new(&bundle);
    let traces = Traces::of(&vm);
    let read_only = || {
        let mounted = Mounted::new(&["--bind"], bundle, bundle);
        run("mount", &["-o", "remount,bind,ro", bundle.to_str().unwrap()]);
        mounted
    };
    // podman writes there for an exec, too.
    vm.guest_sh("(sleep 3; echo more > /disk/marker; sync) > /dev/null 2>&1 &");
    let mounted = read_only();
    sleep(Duration::from_secs(5));
    drop(mounted);
    assert_eq!(vm.marker(), "more");
    assert_eq!(vm.stop(), 0);
    traces.assert_ended();

    let mounted = read_only();
    vm.start_fails_with("read-only file system");
    drop(mounted);
    vm.start();
    assert_eq!(vm.marker(), "more");
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["rm", &vm.name]);
    traces.assert_removed();
    assert_eq!(run("sha256sum", &[&root.at("disk.qcow2")]), image);
}
