//! Processes on the host, and what a VM may leave there.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Vm, eventually, run};

/// Process id, parent's id, name and state of every process.
fn processes() -> Vec<(i32, i32, String, char)> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (pid, rest) = stat.split_once(" (")?;
        // The name may contain any character; the last parenthesis ends it.
        let (name, rest) = rest.rsplit_once(") ")?;
        let (state, rest) = rest.split_once(' ')?;
        let parent = rest.split(' ').next()?.parse().ok()?;
        Some((pid.parse().ok()?, parent, name.to_owned(), state.chars().next()?))
    })
    .collect()
}

/// Process id, name and state of a process's children.
pub fn children(parent: i32) -> Vec<(i32, String, char)> {
    processes().into_iter().filter(|p| p.1 == parent).map(|(pid, _, name, state)| (pid, name, state)).collect()
}

/// The process id of the VM's QEMU.
#[track_caller]
pub fn qemu(vm: &Vm) -> i32 {
    let all = children(vm.pid());
    all.iter().find(|c| c.1.starts_with("qemu-system")).unwrap_or_else(|| panic!("no QEMU in {all:?}")).0
}

/// Sends a signal to a process of the host.
#[track_caller]
pub fn kill_process(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// What must be gone when a running VM has ended.
pub struct Traces {
    pids: [i32; 2],
    network: String,
    id: String,
}

impl Traces {
    /// Records the traces of a running VM.
    pub fn of(vm: &Vm) -> Self {
        let network = vm.inspect("{{.NetworkSettings.SandboxKey}}");
        assert!(Path::new(&network).exists(), "{network}");
        Self { pids: [vm.pid(), qemu(vm)], network, id: vm.inspect("{{.Id}}") }
    }

    /// After the VM's end: no process, network namespace or mount is left.
    pub fn assert_ended(&self) {
        eventually("its processes are gone", || processes().iter().all(|p| !self.pids.contains(&p.0) || p.3 == 'Z'));
        eventually("its network namespace is gone", || !Path::new(&self.network).exists());
        eventually("its mounts are gone", || !fs::read_to_string("/proc/mounts").unwrap().contains(&self.id));
    }

    /// After the container's removal: no file is left either.
    pub fn assert_removed(&self) {
        self.assert_ended();
        let left = run(
            "find",
            &["/var/lib/containers", "/run", "-xdev", "-ignore_readdir_race", "-name", &format!("*{}*", self.id)],
        );
        assert_eq!(left, "", "left behind");
    }
}
