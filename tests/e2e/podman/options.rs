//! podman's options that change the container around the VM: each works or is refused with a reason.

use crate::harness::{FORMS, Form, Podman, Run, Vm, assert_refused, rootfs, start, text};

/// A VM with these options boots and shuts down; `check` is called while it runs.
fn works(form: Form, podman_options: &[&str], check: impl Fn(&Vm)) {
    let (vm, _root) = start(Podman::Rootful, form, podman_options, &[]);
    vm.wait_for("TINY READY", 1);
    check(&vm);
    assert_eq!(vm.stop(), 0, "{podman_options:?}");
}

/// A VM with these options is refused with this line, in both forms.
fn refused(podman_options: &[&str], line: &str) {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    for form in FORMS {
        let run = Run { podman: Podman::Rootful, form, podman_options, what: &what, options: &[] };
        assert_refused(&run, root.path(), None, line);
    }
}

/// `/proc/PID/status` of the container's first process.
fn first_process(vm: &Vm) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).unwrap()
}

/// Exec reaches the guest.
fn guest_is_reached(vm: &Vm) {
    assert_eq!(vm.exec_ok(&["root", "whoami"]), "root");
}

#[test]
fn privileged_vm_runs_qemu_without_capabilities() {
    for form in FORMS {
        works(form, &["--privileged"], |vm| {
            guest_is_reached(vm);
            // The container has the host's devices, but QEMU has no right to use them.
            let status = vm.container_sh("cat /proc/$(pidof qemu-system-x86_64)/status");
            let permitted = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).unwrap().trim().to_string();
            assert_eq!(u64::from_str_radix(&permitted, 16).unwrap(), 0, "{permitted}");
        });
    }
}

#[test]
fn read_only_init_and_label_options_work() {
    works(Form::BuildTree, &["--read-only", "--init", "--security-opt", "label=disable"], |vm| {
        guest_is_reached(vm);
        let process = first_process(vm);
        assert!(process.starts_with("Name:\tcrun-qemu-init\n"), "podman's init was not left out: {process}");
    });
}

#[test]
fn user_option_changes_execs_of_the_plugin_only() {
    works(Form::BuildTree, &["--user", "1000:1000"], |vm| {
        guest_is_reached(vm);
        assert!(first_process(vm).contains("\nUid:\t0\t0\t0\t0\n"), "the supervisor is root");
    });
    // The host's crun runs an exec as that user.
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
fn missing_capabilities_are_refused_with_a_hint() {
    refused(
        &["--cap-drop", "all"],
        "capabilities: the container lacks chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid \
         (--cap-add chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid)",
    );
    // The hint is correct.
    let hint =
        ["--cap-drop", "all", "--cap-add", "chown,dac_override,fowner,kill,net_bind_service,setgid,setpcap,setuid"];
    works(Form::BuildTree, &hint, guest_is_reached);
    refused(
        &["--cap-drop", "sys_chroot", "-v", "/var/tmp:/data"],
        "capabilities: the container lacks sys_chroot (--cap-add sys_chroot)",
    );
}

#[test]
fn pid_namespace_of_the_host_is_refused() {
    refused(
        &["--pid", "host"],
        "--pid=host: the VM would be stopped without a shutdown of the guest, and a kill would leave QEMU running \
         (a VM has no use for the host's processes: leave it out)",
    );
}

#[test]
fn missing_working_directory_is_refused_by_podman() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    for form in FORMS {
        let run = Run { podman: Podman::Rootful, form, podman_options: &["-w", "/nowhere"], what: &what, options: &[] };
        let (status, stderr) = run.foreground();
        // podman does not start the runtime.
        assert!(stderr.contains(r#"workdir "/nowhere" does not exist"#) && status != Some(0), "{status:?} {stderr}");
    }
}
