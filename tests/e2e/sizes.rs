//! How large the VM is, what the container's limits do to it, and what can be changed while it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Form, Podman, Vm, rootfs, text, tiny};
use crate::shared_network::{Pod, warnings};

const MIB: u64 = 1 << 20;
const MEMORY: u64 = 256 * MIB;

/// Touches nearly all of the guest's memory while the disk is written all the time.
const BUSY: &str = r#"
n=0; until grep -q ' /disk ' /proc/mounts || [ $n = 100 ]; do n=$((n + 1)); usleep 100000; done
(while :; do dd if=/dev/zero of=/disk/y bs=1M count=60 conv=fsync 2>/dev/null && rm /disk/y || exit; done) &
io=$!
mount -t tmpfs -o size=100% tmpfs /mnt
dd if=/dev/zero of=/mnt/x bs=1M count=$(awk '/^MemAvailable/ { print int($2 / 1024) - 40 }' /proc/meminfo) 2>/dev/null
kill $io && echo filled
umount /mnt
"#;

/// What stands in the container's cgroup.
fn cgroup(vm: &Vm, controller: &str, v1: &str, v2: &str) -> String {
    fs::read_to_string(cgroup_file(vm, controller, v1, v2)).unwrap().trim().to_owned()
}

/// A file of the container's cgroup, by its name in version 1, where each controller has a hierarchy, or in 2.
pub fn cgroup_file(vm: &Vm, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let all = fs::read_to_string(format!("/proc/{}/cgroup", vm.pid())).unwrap();
    let mut lines = all.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (root, path) = match lines.clone().find(|(names, _)| names.split(',').any(|name| name == controller)) {
        Some((_, path)) => (Path::new("/sys/fs/cgroup").join(controller), path),
        None => ("/sys/fs/cgroup".into(), lines.find(|(names, _)| names.is_empty()).unwrap().1),
    };
    let directory = root.join(path.trim_start_matches('/'));
    let file = [v1, v2].map(|name| directory.join(name)).into_iter().find(|path| path.exists());
    file.unwrap_or_else(|| panic!("neither {v1} nor {v2} is in {}", directory.display()))
}

fn memory_limit(vm: &Vm) -> u64 {
    cgroup(vm, "memory", "memory.limit_in_bytes", "memory.max").parse().unwrap()
}

/// A line of QEMU's `status` for each of its threads.
fn qemu_threads(vm: &Vm, name: &str) -> Vec<String> {
    let script = format!("grep -h ^{name}: /proc/$(pidof qemu-system-x86_64)/task/*/status");
    let lines = vm.exec_ok(&["-", "sh", "-c", &script]);
    lines.lines().map(|line| line.split_once(':').unwrap().1.trim().to_owned()).collect()
}

/// `podman update`, which must not be done, and why not.
#[track_caller]
fn update_refused(vm: &Vm, options: &[&str], line: &str) {
    let output = vm.podman.output(&[&["update"], options, &[&vm.name]].concat());
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains(line), "{options:?}: {stderr}");
}

/// The guest, of 256 MiB, gives memory back and gets it again; the container's limits stay, since a guest need not obey.
pub fn balloon(vm: &Vm) {
    let limit = memory_limit(vm);
    vm.exec_ok(&["root", "modprobe", "virtio_balloon"]);
    let mib = || -> u64 {
        vm.exec_ok(&["root", "awk", "/^MemTotal/ { print int($2 / 1024) }", "/proc/meminfo"]).parse().unwrap()
    };
    let all = mib();
    let becomes = |least: u64, most: u64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !(least..=most).contains(&mib()) {
            assert!(Instant::now() < deadline, "{} MiB of {all} MiB, not {least} to {most}", mib());
            thread::sleep(Duration::from_millis(200));
        }
    };
    vm.podman.ok(&["update", "--memory", "160m", &vm.name]);
    becomes(all - 96, all - 95);
    let status = vm.exec_ok(&["-", "crun-qemu-init", "status"]);
    assert!(status.contains("memory       256 MiB, 160 MiB wanted\n"), "{status}");
    update_refused(
        vm,
        &["--memory", "257m"],
        "qemu: update: --memory: 269484032 bytes: this VM can have 33554432 to 268435456, as it was started with that \
         (make a new container for more)",
    );
    let kept = "qemu: update: a running VM keeps its --memory-swap, --memory-reservation and the like (make a new \
                container with others)";
    update_refused(vm, &["--memory-reservation", "100m"], kept);
    assert_eq!((memory_limit(vm), mib()), (limit, all - 96));
    vm.podman.ok(&["update", "--memory", "256m", &vm.name]);
    becomes(all, all);
    assert_eq!(memory_limit(vm), limit);
}

fn updates(vm: &Vm) {
    let limit = memory_limit(vm);
    vm.podman.ok(&["update", "--cpus", "0.5", "--cpuset-cpus", "0", &vm.name]);
    assert!(qemu_threads(vm, "Cpus_allowed_list").iter().all(|list| list == "0"));
    assert!(cgroup(vm, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    balloon(vm);
    // Engines repeat what does not change.
    vm.podman.ok(&["update", "--memory", "256m", "--cpus", "2", &vm.name]);
    assert_eq!(memory_limit(vm), limit);
    assert!(cgroup(vm, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("200000"));
}

/// The guest's clock is the host's: it goes on while the VM stands still.
fn pause(vm: &Vm) {
    let date = || -> u64 { vm.exec_ok(&["root", "date", "+%s"]).parse().unwrap() };
    let before = date();
    vm.podman.ok(&["pause", &vm.name]);
    let paused = Instant::now();
    thread::sleep(Duration::from_secs(5));
    let paused = paused.elapsed().as_secs();
    vm.podman.ok(&["unpause", &vm.name]);
    let passed = date() - before;
    assert!(passed >= paused, "{passed} s of the guest's in {paused} s");
}

fn seen_by_podman(vm: &Vm) {
    let top = vm.podman.ok(&["top", &vm.name, "comm"]);
    assert!(top.starts_with("COMMAND\ncrun-qemu-init\nqemu-system-x86"), "{top}");
    let stats = vm.podman.ok(&["stats", "--no-stream", "--format", "{{.MemUsageBytes}}", &vm.name]);
    let (usage, limit) = stats.split_once(" / ").unwrap();
    assert!(usage.ends_with("MiB") && limit.ends_with("MiB"), "{stats}");
    let mib = |text: &str| text.trim_end_matches("MiB").parse::<f64>().unwrap();
    // What is used is QEMU's too; the limit is the one that podman was given.
    assert!(mib(usage) > 256.0 && mib(limit) >= 256.0, "{stats}");
}

#[test]
fn a_guest_has_all_its_memory_and_its_cpus() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = [
        "--memory",
        "256m",
        "--memory-reservation",
        "200m",
        "--cpus",
        "2",
        "--cpuset-cpus",
        "0",
        "--cpu-shares",
        "512",
    ];
    let vm = tiny(Podman::Rootful, Form::BuildTree, &what, &options).detached();
    let console = vm.wait_for("TINY READY", 1);
    assert!(console.contains("cpus 2 memory "), "{console}");
    assert_eq!(cgroup(&vm, "cpu", "cpu.shares", "cpu.weight"), if v1() { "512" } else { "20" });

    let limit = memory_limit(&vm);
    assert!((MEMORY + 128 * MIB..MEMORY + 1024 * MIB).contains(&limit), "{limit}");
    let soft = cgroup(&vm, "memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(soft.parse(), Ok(200 * MIB), "a reservation stays");
    // podman's default for memory with swap is twice the memory; version 2 counts swap alone.
    let swap: u64 = cgroup(&vm, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max").parse().unwrap();
    assert_eq!(swap, if v1() { limit + MEMORY } else { MEMORY });

    assert_eq!(vm.exec_ok(&["root", "sh", "-c", "echo 1 > /sys/devices/system/cpu/cpu1/online && nproc"]), "2");
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", BUSY]), "filled");
    let resident: u64 = qemu_threads(&vm, "VmHWM")[0].trim_end_matches(" kB").parse().unwrap();
    assert!(resident << 10 > MEMORY, "{resident} KiB: the guest has not used its memory");
    assert_eq!(vm.inspect("{{.State.Running}} {{.State.OOMKilled}}"), "true false");
    let events = cgroup(&vm, "memory", "memory.oom_control", "memory.events");
    assert!(events.lines().any(|line| line == "oom_kill 0"), "{events}");

    seen_by_podman(&vm);
    pause(&vm);
    updates(&vm);
    assert_eq!(vm.stop(), 0);
    assert_eq!(vm.inspect("{{.State.OOMKilled}}"), "false");
}

/// A pod's limit holds for the VM with all that belongs to it, and is enough.
#[test]
fn a_pod_with_a_limit() {
    let podman = Podman::Rootful;
    let (pod, root) = (Pod::new(podman, &["--memory", "900m"]), rootfs(podman, "tiny"));
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--pod", &pod.1, "--memory", "900m", "--cpus", "1"];
    let vm = tiny(podman, Form::BuildTree, &what, &options).detached();
    vm.wait_for("TINY READY", 1);
    let line = "qemu: --memory: the guest has 365 of 900 MiB (the limit, one above the container's, is not to be raised \
                by what QEMU needs)";
    assert_eq!(warnings(&vm), [line]);
    assert_eq!(memory_limit(&vm), 900 * MIB);
    assert_eq!(vm.exec_ok(&["root", "sh", "-c", BUSY]), "filled");
    assert_eq!(vm.inspect("{{.State.Running}} {{.State.OOMKilled}}"), "true false");
    // What the engine repeats changes nothing.
    vm.podman.ok(&["update", "--memory", "900m", &vm.name]);
    assert_eq!(memory_limit(&vm), 900 * MIB);
    assert_eq!(vm.stop(), 0);
}

fn v1() -> bool {
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The same limits, in crun's own structs.
#[test]
fn the_plugin_raises_the_limit_too() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = tiny(
        Podman::Rootful,
        Form::Plugin,
        &what,
        &["--memory", "256m", "--memory-swap", "300m", "--cpuset-cpus", "0"],
    )
    .detached();
    let limit = memory_limit(&vm);
    assert!((MEMORY + 128 * MIB..MEMORY + 1024 * MIB).contains(&limit), "{limit}");
    let swap: u64 = cgroup(&vm, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max").parse().unwrap();
    assert_eq!(swap, if v1() { limit + 44 * MIB } else { 44 * MIB });
    assert!(vm.wait_for("TINY READY", 1).contains("cpus 1 memory "));
    assert!(qemu_threads(&vm, "Cpus_allowed_list").iter().all(|list| list == "0"));
    balloon(&vm);
    vm.podman.ok(&["update", "--cpus", "0.5", &vm.name]);
    assert_eq!(memory_limit(&vm), limit);
}
