//! The same plugin in other versions of crun, and together with the runtime executable.

use std::path::Path;
use std::process::Command;

use crate::harness::{Form, Loop, Podman, directory, rootfs, run, source, start, text, tiny};
use crate::podman::memory_update_changes_the_guests_memory;

/// A user whom the guest does not know.
const UNKNOWN_USER: &str = "nobody-knows-me";

#[test]
fn plugin_works_in_crun_1_21() {
    let crun = run(source("util/build-crun.sh").to_str().unwrap(), &["1.21"]);
    runs_a_vm(&crun);
    // The layout that a unit test uses is that of this version's headers.
    let layout = std::fs::read_to_string(Path::new(&crun).with_file_name("layout")).unwrap();
    assert_eq!(layout, std::fs::read_to_string(source("tests/abi/layouts/1.8.5")).unwrap());
}

#[test]
fn plugin_works_in_the_newest_crun() {
    runs_a_vm(&run(source("util/newest-crun.sh").to_str().unwrap(), &[]));
}

/// Uses all functions of the plugin and all crun structs that it reads or writes.
fn runs_a_vm(crun: &str) {
    let installed = Command::new(source("util/install-plugin.sh"))
        .arg(source("build/crun-qemu.so"))
        .env("CRUN", crun)
        .output()
        .unwrap();
    assert!(installed.status.success(), "{} (make builds the plugin)", text(&installed.stderr));
    assert!(run(crun, &["--version"]).contains("+QEMU"));

    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let shared = directory();
    std::fs::write(shared.join("file"), "shared").unwrap();
    std::fs::File::create(shared.join("disk")).unwrap().set_len(5 << 20).unwrap();
    let disk = Loop::new(&shared.join("disk"));
    let (volume, device) = (format!("{}:/srv/a b:ro", shared.path().display()), format!("{}:/dev/granted:r", disk.0));
    // podman uses the last --runtime.
    let options = ["--runtime", crun, "-v", &volume, "--device", &device, "--memory", "256m"];
    let vm = tiny(Podman::Rootful, Form::Plugin, &what, &options).detached();
    assert_eq!(vm.inspect("{{.OCIRuntime}}"), crun);
    vm.wait_for("TINY READY", 1);
    assert_eq!(vm.exec_ok(&["root", "echo", "a  b"]), "a  b");
    let given = "modprobe virtiofs; mkdir /tmp/m; mount -t virtiofs '/srv/a b' /tmp/m; cat /tmp/m/file; ! touch /tmp/m/x; \
                 grep -l crun-qemu-0 /sys/block/*/serial | while read s; do d=${s%/serial}; cat $d/size $d/ro; done";
    assert_eq!(vm.guest_sh(given), "shared10240\n1");
    assert_eq!(vm.exec(&["root", "sh", "-c", "exit 7"]).status.code(), Some(7));
    memory_update_changes_the_guests_memory(&vm);
    let unknown = vm.exec(&[UNKNOWN_USER, "true"]);
    let message = text(&unknown.stderr);
    assert!(message.contains("Permission denied"), "{:?}: ssh was not reached: {message}", unknown.status);
    assert_eq!(unknown.status.code(), Some(255));
    assert_eq!(vm.stop(), 0);
    vm.start();
    vm.wait_for("TINY READY", 2);
}

#[test]
fn plugin_and_runtime_executable_together_do_nothing_twice() {
    assert!(run("crun", &["--version"]).contains("+QEMU"));
    let (vm, _root) = start(Podman::Rootful, Form::Executable, &["--annotation", "run.oci.handler=qemu"], &[]);
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
