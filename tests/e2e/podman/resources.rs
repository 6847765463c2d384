//! The VM's size, the container's limits, and changes of both while the VM runs.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Form, Pod, Podman, Vm, cgroup_value, cgroups_v1, start, text};

const MIB: u64 = 1 << 20;
const MEMORY: u64 = 256 * MIB;

/// Uses nearly all memory of the guest while another process writes to the disk.
const BUSY: &str = r#"
n=0; until grep -q ' /disk ' /proc/mounts || [ $n = 100 ]; do n=$((n + 1)); usleep 100000; done
(while :; do dd if=/dev/zero of=/disk/y bs=1M count=60 conv=fsync 2>/dev/null && rm /disk/y || exit; done) &
io=$!
mount -t tmpfs -o size=100% tmpfs /mnt
dd if=/dev/zero of=/mnt/x bs=1M count=$(awk '/^MemAvailable/ { print int($2 / 1024) - 40 }' /proc/meminfo) 2>/dev/null
kill $io && echo filled
umount /mnt
"#;

fn memory_limit(vm: &Vm) -> u64 {
    cgroup_value(vm, "memory", "memory.limit_in_bytes", "memory.max").parse().unwrap()
}

/// A field of `/proc/PID/task/TID/status` of each thread of QEMU.
fn qemu_threads(vm: &Vm, name: &str) -> Vec<String> {
    let script = format!("grep -h ^{name}: /proc/$(pidof qemu-system-x86_64)/task/*/status");
    let lines = vm.container_sh(&script);
    lines.lines().map(|line| line.split_once(':').unwrap().1.trim().to_owned()).collect()
}

/// `podman update` must fail with this line.
#[track_caller]
fn update_refused(vm: &Vm, options: &[&str], line: &str) {
    let output = vm.podman.output(&[&["update"], options, &[&vm.name]].concat());
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains(line), "{options:?}: {stderr}");
}

/// A guest of 256 MiB returns memory and gets it back. The container's limits stay, since a guest need not comply.
pub fn memory_update_changes_the_guests_memory(vm: &Vm) {
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
    let status = vm.status();
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

/// `podman update` of CPUs and memory.
fn updates_take_effect(vm: &Vm) {
    let limit = memory_limit(vm);
    vm.podman.ok(&["update", "--cpus", "0.5", "--cpuset-cpus", "0", &vm.name]);
    assert!(qemu_threads(vm, "Cpus_allowed_list").iter().all(|list| list == "0"));
    assert!(cgroup_value(vm, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    memory_update_changes_the_guests_memory(vm);
    // Engines also pass values that did not change.
    vm.podman.ok(&["update", "--memory", "256m", "--cpus", "2", &vm.name]);
    assert_eq!(memory_limit(vm), limit);
    assert!(cgroup_value(vm, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("200000"));
}

/// The guest's clock follows the host's during a pause.
fn clock_goes_on_during_a_pause(vm: &Vm) {
    let date = || -> u64 { vm.exec_ok(&["root", "date", "+%s"]).parse().unwrap() };
    let before = date();
    vm.podman.ok(&["pause", &vm.name]);
    let paused = Instant::now();
    thread::sleep(Duration::from_secs(5));
    let paused = paused.elapsed().as_secs();
    vm.podman.ok(&["unpause", &vm.name]);
    let passed = date() - before;
    assert!(passed >= paused, "{passed} s in the guest during {paused} s");
}

/// `podman top` and `podman stats`.
fn podman_shows_processes_and_memory(vm: &Vm) {
    let top = vm.podman.ok(&["top", &vm.name, "comm"]);
    assert!(top.starts_with("COMMAND\ncrun-qemu-init\nqemu-system-x86"), "{top}");
    let stats = vm.podman.ok(&["stats", "--no-stream", "--format", "{{.MemUsageBytes}}", &vm.name]);
    let (usage, limit) = stats.split_once(" / ").unwrap();
    assert!(usage.ends_with("MiB") && limit.ends_with("MiB"), "{stats}");
    let mib = |text: &str| text.trim_end_matches("MiB").parse::<f64>().unwrap();
    // The usage includes QEMU's; the limit is podman's option.
    assert!(mib(usage) > 256.0 && mib(limit) >= 256.0, "{stats}");
}

#[test]
fn guest_has_its_memory_and_cpus() {
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
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &options, &[]);
    let console = vm.wait_for("TINY READY", 1);
    assert!(console.contains("cpus 2 memory "), "{console}");
    assert_eq!(cgroup_value(&vm, "cpu", "cpu.shares", "cpu.weight"), if cgroups_v1() { "512" } else { "20" });

    let limit = memory_limit(&vm);
    assert!((MEMORY + 128 * MIB..MEMORY + 1024 * MIB).contains(&limit), "{limit}");
    let soft = cgroup_value(&vm, "memory", "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(soft.parse(), Ok(200 * MIB), "a reservation stays");
    // podman's default for memory and swap is twice the memory; version 2 counts only swap.
    let swap: u64 = cgroup_value(&vm, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max").parse().unwrap();
    assert_eq!(swap, if cgroups_v1() { limit + MEMORY } else { MEMORY });

    assert_eq!(vm.guest_sh("echo 1 > /sys/devices/system/cpu/cpu1/online && nproc"), "2");
    assert_eq!(vm.guest_sh(BUSY), "filled");
    let resident: u64 = qemu_threads(&vm, "VmHWM")[0].trim_end_matches(" kB").parse().unwrap();
    assert!(resident << 10 > MEMORY, "{resident} KiB: the guest did not use its memory");
    assert_eq!(vm.inspect("{{.State.Running}} {{.State.OOMKilled}}"), "true false");
    let events = cgroup_value(&vm, "memory", "memory.oom_control", "memory.events");
    assert!(events.lines().any(|line| line == "oom_kill 0"), "{events}");

    podman_shows_processes_and_memory(&vm);
    clock_goes_on_during_a_pause(&vm);
    updates_take_effect(&vm);
    assert_eq!(vm.stop(), 0);
    assert_eq!(vm.inspect("{{.State.OOMKilled}}"), "false");
}

/// The limit covers the VM with all its processes and suffices for them.
#[test]
fn pod_memory_limit_holds() {
    let podman = Podman::Rootful;
    let pod = Pod::new(podman, &["--memory", "900m"]);
    let options = ["--pod", &pod.1, "--memory", "900m", "--cpus", "1"];
    let (vm, _root) = start(podman, Form::BuildTree, &options, &[]);
    vm.wait_for("TINY READY", 1);
    let line = "qemu: --memory: the guest has 365 of 900 MiB (the limit, one above the container's, is not to be raised \
                by what QEMU needs)";
    assert_eq!(vm.warnings(), [line]);
    assert_eq!(memory_limit(&vm), 900 * MIB);
    assert_eq!(vm.guest_sh(BUSY), "filled");
    assert_eq!(vm.inspect("{{.State.Running}} {{.State.OOMKilled}}"), "true false");
    // An update to the same value changes nothing.
    vm.podman.ok(&["update", "--memory", "900m", &vm.name]);
    assert_eq!(memory_limit(&vm), 900 * MIB);
    assert_eq!(vm.stop(), 0);
}

/// The plugin changes the limit in crun's structs.
#[test]
fn plugin_raises_the_memory_limit() {
    let options = ["--memory", "256m", "--memory-swap", "300m", "--cpuset-cpus", "0"];
    let (vm, _root) = start(Podman::Rootful, Form::Plugin, &options, &[]);
    let limit = memory_limit(&vm);
    assert!((MEMORY + 128 * MIB..MEMORY + 1024 * MIB).contains(&limit), "{limit}");
    let swap: u64 = cgroup_value(&vm, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max").parse().unwrap();
    assert_eq!(swap, if cgroups_v1() { limit + 44 * MIB } else { 44 * MIB });
    assert!(vm.wait_for("TINY READY", 1).contains("cpus 1 memory "));
    assert!(qemu_threads(&vm, "Cpus_allowed_list").iter().all(|list| list == "0"));
    memory_update_changes_the_guests_memory(&vm);
    vm.podman.ok(&["update", "--cpus", "0.5", &vm.name]);
    assert_eq!(memory_limit(&vm), limit);
}
