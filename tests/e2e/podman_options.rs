//! podman's own options that change the container around the VM: each works, or is refused with a reason.

use crate::bad_input::refused;
use crate::harness::{Form, Podman, Run, Vm, rootfs, text, tiny};

/// Boots with these options to the shell, and shuts down in good order. `look` sees the VM running.
fn works(form: Form, podman_options: &[&str], look: impl Fn(&Vm)) {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, form, &what, podman_options).detached();
    vm.wait_for("TINY READY", 1);
    look(&vm);
    assert_eq!(vm.stop(), 0, "{podman_options:?}");
}

/// Is not started, in either form, with this line.
fn does_not(podman_options: &[&str], line: &str) {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for form in [Form::BuildTree, Form::Plugin] {
        let run = Run { podman: Podman::Rootful, form, podman_options, what: &what, options: &[] };
        refused(&run, root.path(), None, line);
    }
}

/// What the container's first process is called, and its capabilities and ids.
fn first_process(vm: &Vm) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap()
}

fn guest_is_entered(vm: &Vm) {
    assert_eq!(vm.exec_ok(&["root", "whoami"]), "root");
}

#[test]
fn privileged() {
    for form in [Form::BuildTree, Form::Plugin] {
        works(form, &["--privileged"], |vm| {
            guest_is_entered(vm);
            // The host's devices are the container's; QEMU has no use for them and no right to.
            let status = vm.exec_ok(&["-", "sh", "-c", "cat /proc/$(pidof qemu-system-x86_64)/status"]);
            let permitted = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).unwrap().trim().to_string();
            assert_eq!(u64::from_str_radix(&permitted, 16).unwrap(), 0, "{permitted}");
        });
    }
}

#[test]
fn read_only_and_init_and_no_label() {
    works(Form::BuildTree, &["--read-only", "--init", "--security-opt", "label=disable"], |vm| {
        guest_is_entered(vm);
        let process = first_process(vm);
        assert!(process.starts_with("Name:\tcrun-qemu-init\n"), "podman's init is left out: {process}");
    });
}

#[test]
fn user() {
    works(Form::BuildTree, &["--user", "1000:1000"], |vm| {
        guest_is_entered(vm);
        assert!(first_process(vm).contains("\nUid:\t0\t0\t0\t0\n"), "the supervisor is root");
    });
    // Stock crun runs an exec as that user.
    works(Form::Plugin, &["--user", "1000:1000"], |vm| {
        let output = vm.exec(&["root", "whoami"]);
        let want =
            "qemu: exec: it runs as user 1000 of the container, and the guest's key is root's (podman exec --user 0)\n";
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(255), want));
        let output = vm.podman.output(&["exec", "--user", "0", &vm.name, "root", "whoami"]);
        assert_eq!(text(&output.stdout), "root\n", "{}", text(&output.stderr));
    });
}

#[test]
fn capabilities() {
    does_not(
        &["--cap-drop", "all"],
        "capabilities: the container lacks chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid \
         (--cap-add chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid)",
    );
    // The hint is true.
    let hint =
        ["--cap-drop", "all", "--cap-add", "chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid"];
    works(Form::BuildTree, &hint, guest_is_entered);
    does_not(
        &["--cap-drop", "sys_chroot", "-v", "/var/tmp:/data"],
        "capabilities: the container lacks sys_chroot (--cap-add sys_chroot)",
    );
}

#[test]
fn the_hosts_processes() {
    does_not(
        &["--pid", "host"],
        "--pid=host: the VM would be stopped without a shutdown of the guest, and a kill would leave QEMU running \
         (a VM has no use for the host's processes: leave it out)",
    );
}

#[test]
fn a_directory_that_is_not_there() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    for form in [Form::BuildTree, Form::Plugin] {
        let run = Run { podman: Podman::Rootful, form, podman_options: &["-w", "/nowhere"], what: &what, options: &[] };
        let (status, stderr) = run.refused();
        // podman's own words: it does not ask the runtime.
        assert!(stderr.contains(r#"workdir "/nowhere" does not exist"#) && status != Some(0), "{status:?} {stderr}");
    }
}
