//! Killed processes and exhausted resources, as docs/faults.md describes them.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{
    Dir, Form, Podman, Run, Traces, Vm, cgroup_file, directory, eventually, host_script, kill_process, qemu, rootfs,
    run, start, text, tiny,
};

#[derive(Debug, Clone, Copy)]
enum Victim {
    Supervisor,
    Qemu,
}
use Victim::{Qemu, Supervisor};

/// Checksum of the VM image.
fn sum(root: &Dir) -> String {
    run("sha256sum", &[&root.at("disk.qcow2")])
}

/// One container: after each kill the end is reported, only the disk is left, and the next start works.
#[test]
fn kills_at_every_stage_leave_only_the_disk() {
    let root = rootfs(Podman::Rootful, "tiny");
    let (what, image) = (root.as_root(), sum(&root));
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    vm.write_marker("precious");
    let ended = "qemu: the VM: QEMU ended unexpectedly (qemu-system-x86 was killed by SIGKILL)";
    let table = [
        (None, Qemu, "1", ended),
        (None, Supervisor, "137", ""),
        (Some("SeaBIOS"), Qemu, "1", ended),
        (Some("SeaBIOS"), Supervisor, "137", ""),
        (Some("tiny: firmware"), Qemu, "1", ended),
        (Some("tiny: firmware"), Supervisor, "137", ""),
    ];
    for (stage, victim, status, reason) in table {
        if let Some(line) = stage {
            let before = vm.logs().matches(line).count();
            vm.start();
            vm.wait_for(line, before + 1);
        } else if vm.inspect("{{.State.Running}}") == "false" {
            vm.start();
            vm.exec_ok(&["root", "true"]);
        }
        let (traces, reported) = (Traces::of(&vm), vm.logs().matches(reason).count());
        let pid = if let Qemu = victim { qemu(&vm) } else { vm.pid() };
        kill_process(pid, Signal::SIGKILL);
        assert_eq!(vm.wait().to_string(), status, "{victim:?} at {stage:?}");
        traces.assert_ended();
        let logs = vm.logs();
        assert!(reason.is_empty() || logs.matches(reason).count() == reported + 1, "{victim:?} at {stage:?}:\n{logs}");
    }
    vm.start();
    assert_eq!(vm.marker(), "precious");
    full_log_file_system_does_no_harm(&vm);
    exec_works_after_its_ssh_was_killed(&vm);
    container_without_conmon_can_be_removed(&vm);
    assert_eq!(sum(&root), image);
}

/// The logs have a small file system of their own, so that they take little memory and leave room for the rest.
fn full_log_file_system_does_no_harm(vm: &Vm) {
    let fill = "head -c 67108864 /dev/zero > /run/v/log/full; stat -c %s /run/v/log/full";
    let size: u64 = vm.container_sh(fill).parse().unwrap();
    assert!(size <= 4 << 20, "{size}");
    assert_eq!(vm.exec_ok(&["root", "echo", "well"]), "well");
    assert!(vm.status().contains("state        running\n"));
}

/// The exec itself fails.
fn exec_works_after_its_ssh_was_killed(vm: &Vm) {
    let child = vm.exec_command(&[], &["root", "sleep", "98763"]).spawn().unwrap();
    let pids = "for p in /proc/[0-9]*; do read -r n <$p/comm && [ $n = ssh ] && echo ${p#/proc/}; done";
    let ssh = || vm.container_sh(&format!("{pids}; true"));
    eventually("an ssh runs", || !ssh().is_empty());
    vm.container_sh(&format!("kill -9 $({pids})"));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(255));
    assert_eq!(vm.exec_ok(&["root", "echo", "again"]), "again");
}

/// podman learns nothing more about the container. crun's state directory stays, as for any container without conmon.
fn container_without_conmon_can_be_removed(vm: &Vm) {
    let traces = Traces::of(vm);
    let conmon = vm.inspect("{{.State.ConmonPid}}").parse().unwrap();
    kill_process(conmon, Signal::SIGKILL);
    let bundle = vm.inspect("{{.StaticDir}}");
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_ended();
    assert!(!Path::new(&bundle).exists(), "{bundle} is left behind");
}

#[test]
fn vm_out_of_memory_ends_with_a_reason_and_starts_again() {
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &["--memory", "256m"], &[]);
    vm.exec_ok(&["root", "true"]);
    let traces = Traces::of(&vm);
    let used = cgroup_file(&vm, "memory", "memory.usage_in_bytes", "memory.current");
    let used: u64 = fs::read_to_string(used).unwrap().trim().parse().unwrap();
    let limit = cgroup_file(&vm, "memory", "memory.limit_in_bytes", "memory.max");
    fs::write(limit, (used + (8 << 20)).to_string()).unwrap();
    vm.exec(&["root", "sh", "-c", "mount -t tmpfs none /mnt; head -c 100000000 /dev/urandom > /mnt/x"]);
    assert_eq!(vm.wait(), 1);
    let logs = vm.logs();
    assert!(logs.contains("qemu: the VM: QEMU ended unexpectedly (qemu-system-x86 was killed by SIGKILL)"), "{logs}");
    traces.assert_ended();
    vm.start();
    assert_eq!(vm.exec_ok(&["root", "echo", "again"]), "again");
}

/// crun itself needs more descriptors than a VM without further disks, so the VM has twenty of them.
#[test]
fn start_without_enough_descriptors_fails_with_a_reason() {
    let (root, disks) = (rootfs(Podman::Rootful, "tiny"), directory());
    let (what, image) = (root.as_root(), sum(&root));
    // Limits that are named one by one replace all limits of the host's configuration.
    let mut podman_options: Vec<String> =
        ["--ulimit", "nofile=40:40", "--ulimit", "nproc=1024:1024"].map(Into::into).into();
    let mut options: Vec<String> = Vec::new();
    for n in 0..20 {
        let file = disks.join(&n.to_string());
        fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
        podman_options.extend(["-v".into(), format!("{}:/d{n}", file.display())]);
        options.extend(["--blockdev".into(), format!("source=/d{n},target=/dev/d{n},format=raw")]);
    }
    let podman_options: Vec<_> = podman_options.iter().map(String::as_str).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let (podman_options, options) = (&podman_options[..], &options[..]);
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what: &what, options };
    let (status, stderr) = run.foreground();
    let lines = stderr.lines().filter(|line| line.starts_with("qemu: ") && line.contains("Too many open files"));
    assert_eq!((status, lines.count()), (Some(1), 1), "{stderr}");
    assert_eq!(sum(&root), image);
}

#[test]
fn start_works_after_a_runtime_was_killed_during_create() {
    let (root, dir) = (rootfs(Podman::Rootful, "tiny"), directory());
    let image = sum(&root);
    let stage = dir.join("stage");
    // The command line is `--root … create --bundle DIR …`; the loop also ends when the runtime ends.
    let script = format!(
        "#!/bin/bash\nreal={}\n[[ -e {stage} && \" $* \" == *' create '* ]] || exec $real \"$@\"\n\
         bundle=${{*#*--bundle }} bundle=${{bundle%% *}}\n$real \"$@\" & pid=$!\n\
         until [[ -e $bundle/crun-qemu/$(<{stage}) || ! -e /proc/$pid ]]; do :; done\nkill -9 $pid\nwait $pid\nexit 1\n",
        env!("CARGO_BIN_EXE_crun-qemu"),
        stage = stage.display(),
    );
    let runtime = host_script(&dir, "runtime", &script);
    let podman_options = ["--runtime", runtime.to_str().unwrap()];
    let vm = Vm::new(Podman::Rootful);
    // podman uses the last --runtime.
    let mut args = tiny(vm.podman, Form::BuildTree, &root.as_root(), &podman_options).args(&vm.name);
    args[0] = "create".into();
    vm.podman.ok(&args);
    for at in ["", "overlay.qcow2"] {
        fs::write(&stage, at).unwrap();
        let output = vm.podman.output(&["start", &vm.name]);
        assert!(!output.status.success(), "killed at {at:?}: {}", text(&output.stderr));
    }
    fs::remove_file(&stage).unwrap();
    vm.start();
    assert_eq!(vm.exec_ok(&["root", "echo", "up"]), "up");
    let traces = Traces::of(&vm);
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_removed();
    assert_eq!(sum(&root), image);
}
