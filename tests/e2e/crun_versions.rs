//! One and the same plugin in other versions of crun than the host's, and beside the runtime executable.

use std::path::Path;
use std::process::Command;

use crate::harness::{Form, Podman, directory, rootfs, run, source, text, tiny};
use crate::pass_through::Loop;
use crate::sizes::balloon;

/// A user that crun knows no command for.
const STRANGER: &str = "nobody-knows-me";

#[test]
fn a_newer_crun_loads_the_same_plugin() {
    let crun = run(source("util/build-crun.sh").to_str().unwrap(), &["1.21"]);
    runs_a_vm(&crun);
    // What a unit test compares our structs with is what this version's headers say.
    let layout = std::fs::read_to_string(Path::new(&crun).with_file_name("layout")).unwrap();
    assert_eq!(layout, std::fs::read_to_string(source("tests/abi/layouts/1.8.5")).unwrap());
}

#[test]
fn the_newest_crun_loads_the_same_plugin() {
    runs_a_vm(&run(source("util/newest-crun.sh").to_str().unwrap(), &[]));
}

/// Everything in which the plugin meets crun's structs, and all of its functions.
fn runs_a_vm(crun: &str) {
    let installed = Command::new(source("util/install-plugin.sh"))
        .arg(source("build/crun-qemu.so"))
        .env("CRUN", crun)
        .output()
        .unwrap();
    assert!(installed.status.success(), "{} (make builds the plugin)", text(&installed.stderr));
    assert!(run(crun, &["--version"]).contains("+QEMU"));

    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let shared = directory();
    std::fs::write(shared.path().join("file"), "shared").unwrap();
    std::fs::File::create(shared.path().join("disk")).unwrap().set_len(5 << 20).unwrap();
    let disk = Loop::new(&shared.path().join("disk"));
    let (volume, device) = (format!("{}:/srv/a b:ro", shared.path().display()), format!("{}:/dev/granted:r", disk.0));
    // The last --runtime is the one that podman takes.
    let options = ["--runtime", crun, "-v", &volume, "--device", &device, "--memory", "256m"];
    let vm = tiny(Podman::Rootful, Form::Plugin, &what, &options).detached();
    assert_eq!(vm.inspect("{{.OCIRuntime}}"), crun);
    vm.wait_for("TINY READY", 1);
    assert_eq!(vm.exec_ok(&["root", "echo", "a  b"]), "a  b");
    let given = "modprobe virtiofs; mkdir /tmp/m; mount -t virtiofs '/srv/a b' /tmp/m; cat /tmp/m/file; ! touch /tmp/m/x; \
                 grep -l crun-qemu-0 /sys/block/*/serial | while read s; do d=${s%/serial}; cat $d/size $d/ro; done";
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", given]), "shared10240\n1");
    assert_eq!(vm.exec(&["root", "sh", "-c", "exit 7"]).status.code(), Some(7));
    balloon(&vm);
    let stranger = vm.exec(&[STRANGER, "true"]);
    let message = text(&stranger.stderr);
    assert!(message.contains("Permission denied"), "{:?}: ssh was not reached: {message}", stranger.status);
    assert_eq!(stranger.status.code(), Some(255));
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
}

#[test]
fn plugin_and_runtime_executable_at_once_do_nothing_twice() {
    assert!(run("crun", &["--version"]).contains("+QEMU"));
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::Executable, &what, &["--annotation", "run.oci.handler=qemu"]).detached();
    let console = vm.wait_for("TINY READY", 1);
    assert_eq!(console.matches("tiny: net ").count(), 1, "{console}");
    let children = run("pgrep", &["-P", &vm.pid().to_string(), "-l"]);
    assert_eq!(children.lines().count(), 1, "{children}");
    assert!(children.contains("qemu-system"), "{children}");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", vm.pid())).unwrap();
    let count = |at: &str| mounts.lines().filter(|line| line.split(' ').nth(4) == Some(at)).count();
    for at in ["/crun-qemu/image", "/crun-qemu/overlay.qcow2", "/usr", "/run"] {
        assert_eq!(count(at), 1, "{at}:\n{mounts}");
    }
    assert_eq!(vm.exec_ok(&["root", "whoami"]), "root");
    assert_eq!(vm.stop(), 0);
}
