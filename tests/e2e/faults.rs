//! What docs/faults.md promises of processes that are killed and of resources that run out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Form, Podman, Run, Vm, directory, rootfs, run, text, tiny};
use crate::images::{marker, write_marker};
use crate::lifecycle::{Traces, eventually, qemu};
use crate::sizes::cgroup_file;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Supervisor,
    Qemu,
}
use Victim::{Qemu, Supervisor};

fn sum(root: &Path) -> String {
    run("sha256sum", &[root.join("disk.qcow2").to_str().unwrap()])
}

/// One container through all its stages: whoever is killed, the VM's end is told, nothing of it is left but its disk, and
/// that is good for the next start.
#[test]
fn killed_at_every_stage() {
    let root = rootfs(Podman::Rootful, "tiny");
    let (what, image) = (["--rootfs", root.path().to_str().unwrap()], sum(root.path()));
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &[]).detached();
    write_marker(&vm, "precious");
    let ended = "qemu: the VM: QEMU ended unexpectedly (qemu-system-x86 was killed by SIGKILL)";
    let table = [
        (None, Qemu, "1", ended),
        (None, Supervisor, "137", ""),
        (Some("SeaBIOS"), Qemu, "1", ended),
        (Some("SeaBIOS"), Supervisor, "137", ""),
        (Some("tiny: firmware"), Qemu, "1", ended),
        (Some("tiny: firmware"), Supervisor, "137", ""),
    ];
    for (said, victim, status, reason) in table {
        if let Some(said) = said {
            let (before, _) = (vm.logs().matches(said).count(), vm.podman.ok(&["start", &vm.name]));
            vm.wait_for(said, before + 1);
        } else if vm.inspect("{{.State.Running}}") == "false" {
            vm.podman.ok(&["start", &vm.name]);
            vm.exec_ok(&["root", "true"]);
        }
        let (traces, told) = (Traces::of(&vm), vm.logs().matches(reason).count());
        let pid = if let Qemu = victim { qemu(&vm) } else { vm.pid() };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert_eq!(vm.wait().to_string(), status, "{victim:?} at {said:?}");
        traces.assert_ended();
        let logs = vm.logs();
        assert!(reason.is_empty() || logs.matches(reason).count() == told + 1, "{victim:?} at {said:?}:\n{logs}");
    }
    vm.podman.ok(&["start", &vm.name]);
    assert_eq!(marker(&vm), "precious");
    with_full_logs(&vm);
    without_ssh(&vm);
    without_conmon(&vm);
    assert_eq!(sum(root.path()), image);
}

/// However much is logged, it takes little of the host's memory, and the VM has room for all else.
fn with_full_logs(vm: &Vm) {
    let fill = "head -c 67108864 /dev/zero > /run/v/log/full; stat -c %s /run/v/log/full";
    let size: u64 = vm.exec_ok(&["-", "sh", "-c", fill]).parse().unwrap();
    assert!(size <= 4 << 20, "{size}");
    assert_eq!(vm.exec_ok(&["root", "echo", "well"]), "well");
    assert!(vm.exec_ok(&["-", "crun-qemu-init", "status"]).contains("state        running\n"));
}

/// An exec whose ssh is killed fails, and the next one works.
fn without_ssh(vm: &Vm) {
    let child = vm.exec_command(&[], &["root", "sleep", "98763"]).spawn().unwrap();
    let pids = "for p in /proc/[0-9]*; do read -r n <$p/comm && [ $n = ssh ] && echo ${p#/proc/}; done";
    let ssh = || vm.exec_ok(&["-", "sh", "-c", &format!("{pids}; true")]);
    eventually("an ssh runs", || !ssh().is_empty());
    vm.exec_ok(&["-", "sh", "-c", &format!("kill -9 $({pids})")]);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(255));
    assert_eq!(vm.exec_ok(&["root", "echo", "again"]), "again");
}

/// Without conmon the engine learns no more of the VM; it can still be removed. What crun knows of a container stays then,
/// of any container; of ours nothing does.
fn without_conmon(vm: &Vm) {
    let traces = Traces::of(vm);
    let conmon = vm.inspect("{{.State.ConmonPid}}").parse().unwrap();
    kill(Pid::from_raw(conmon), Signal::SIGKILL).unwrap();
    let bundle = vm.inspect("{{.StaticDir}}");
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_ended();
    assert!(!Path::new(&bundle).exists(), "{bundle} is left behind");
}

/// A container that may have no more memory than it has loses QEMU, says why, and starts again.
#[test]
fn out_of_memory() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &["--memory", "256m"]).detached();
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
    vm.podman.ok(&["start", &vm.name]);
    assert_eq!(vm.exec_ok(&["root", "echo", "again"]), "again");
}

/// With too few descriptors the VM does not start, and the reason is told. crun itself needs more than a VM without disks.
#[test]
fn out_of_descriptors() {
    let (root, disks) = (rootfs(Podman::Rootful, "tiny"), directory());
    let (what, image) = (["--rootfs", root.path().to_str().unwrap()], sum(root.path()));
    // Named one by one, limits take the place of all that are set for the host.
    let mut podman_options: Vec<String> =
        ["--ulimit", "nofile=40:40", "--ulimit", "nproc=1024:1024"].map(Into::into).into();
    let mut options: Vec<String> = Vec::new();
    for n in 0..20 {
        let file = disks.path().join(n.to_string());
        fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
        podman_options.extend(["-v".into(), format!("{}:/d{n}", file.display())]);
        options.extend(["--blockdev".into(), format!("source=/d{n},target=/dev/d{n},format=raw")]);
    }
    let podman_options: Vec<_> = podman_options.iter().map(String::as_str).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let (podman_options, options) = (&podman_options[..], &options[..]);
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what: &what, options };
    let (status, said) = run.refused();
    let told = said.lines().filter(|line| line.starts_with("qemu: ") && line.contains("Too many open files"));
    assert_eq!((status, told.count()), (Some(1), 1), "{said}");
    assert_eq!(sum(root.path()), image);
}

/// A runtime that is killed while it makes what the VM needs: the next start finds its way.
#[test]
fn killed_while_it_is_created() {
    let (root, dir) = (rootfs(Podman::Rootful, "tiny"), directory());
    let image = sum(root.path());
    let (runtime, stage) = (dir.path().join("runtime"), dir.path().join("stage"));
    // The first words of a create are `--root … create --bundle DIR …`; the wait ends with the runtime, too.
    let script = format!(
        "#!/bin/bash\nreal={}\n[[ -e {stage} && \" $* \" == *' create '* ]] || exec $real \"$@\"\n\
         bundle=${{*#*--bundle }} bundle=${{bundle%% *}}\n$real \"$@\" & pid=$!\n\
         until [[ -e $bundle/crun-qemu/$(<{stage}) || ! -e /proc/$pid ]]; do :; done\nkill -9 $pid\nwait $pid\nexit 1\n",
        env!("CARGO_BIN_EXE_crun-qemu"),
        stage = stage.display(),
    );
    fs::write(&runtime, script).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let name = crate::harness::unique(crate::harness::LABEL);
    let vm = Vm { podman: Podman::Rootful, name };
    let root_dir = root.path().to_str().unwrap();
    let label = crate::harness::LABEL;
    let runtime = runtime.to_str().unwrap();
    vm.podman.ok(&[
        "create",
        "--name",
        &vm.name,
        "--label",
        label,
        "--runtime",
        runtime,
        "--rootfs",
        root_dir,
        "",
        "--emulated",
    ]);
    for at in ["", "overlay.qcow2"] {
        fs::write(&stage, at).unwrap();
        let output = vm.podman.output(&["start", &vm.name]);
        assert!(!output.status.success(), "killed at {at:?}: {}", text(&output.stderr));
    }
    fs::remove_file(&stage).unwrap();
    vm.podman.ok(&["start", &vm.name]);
    assert_eq!(vm.exec_ok(&["root", "echo", "up"]), "up");
    let traces = Traces::of(&vm);
    vm.podman.ok(&["rm", "-f", "-t", "0", &vm.name]);
    traces.assert_removed();
    assert_eq!(sum(root.path()), image);
}
