//! A running or stopped VM.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{Console, LABEL, PATIENCE, Podman, text, unique};

/// Waits in the guest until its disk is mounted, a moment after it reports that it is ready.
pub const MOUNTED: &str = "until grep -q ' /disk ' /proc/mounts; do usleep 100000; done";

/// A container with a VM; dropping it removes the container with everything that belongs to it.
pub struct Vm {
    pub podman: Podman,
    pub name: String,
}

impl Vm {
    /// The handle of a container that does not exist yet.
    pub fn new(podman: Podman) -> Self {
        Self { podman, name: unique(LABEL) }
    }

    /// All output of the console so far.
    pub fn logs(&self) -> String {
        let output = self.podman.output(&["logs", &self.name]);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Warnings: the `qemu: ` lines on stderr, where the guest's output does not appear.
    pub fn warnings(&self) -> Vec<String> {
        let output = self.podman.output(&["logs", &self.name]);
        text(&output.stderr).lines().filter(|line| line.starts_with("qemu: ")).map(str::to_string).collect()
    }

    /// Waits until the console has printed `needle` `times` times, and returns all its output.
    #[track_caller]
    pub fn wait_for(&self, needle: &str, times: usize) -> String {
        let mut command = self.podman.command();
        command.args(["logs", "-f", &self.name]);
        Console::expect_in_logs(command, || self.inspect("{{.State.Running}}") == "true", needle, times)
    }

    /// `podman exec` with these arguments after the container's name.
    pub fn exec(&self, args: &[&str]) -> Output {
        let mut all = vec!["exec", &self.name];
        all.extend(args);
        self.podman.output(&all)
    }

    /// `podman exec OPTIONS`, not yet started.
    pub fn exec_command(&self, options: &[&str], args: &[&str]) -> Command {
        let mut command = self.podman.command();
        command.arg("exec").args(options).arg(&self.name).args(args).stdin(Stdio::null());
        command
    }

    /// `podman exec`, which must succeed: its trimmed output.
    #[track_caller]
    pub fn exec_ok(&self, args: &[&str]) -> String {
        let output = self.exec(args);
        assert!(output.status.success(), "exec {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    }

    /// Runs a script in the guest as root; it must succeed: its trimmed output.
    #[track_caller]
    pub fn guest_sh(&self, script: &str) -> String {
        self.exec_ok(&["root", "sh", "-c", script])
    }

    /// Runs a script in the container around the VM; it must succeed: its trimmed output.
    #[track_caller]
    pub fn container_sh(&self, script: &str) -> String {
        self.exec_ok(&["-", "sh", "-c", script])
    }

    /// Each script, run in the guest as root, must print the text beside it.
    #[track_caller]
    pub fn guest_prints(&self, table: &[(&str, &str)]) {
        for (script, want) in table {
            assert_eq!(self.guest_sh(script), *want, "{script}");
        }
    }

    /// Writes to the guest's disk.
    #[track_caller]
    pub fn write_marker(&self, marker: &str) {
        self.guest_sh(&format!("{MOUNTED}; echo {marker} > /disk/marker && sync"));
    }

    /// What [`Self::write_marker`] has written.
    #[track_caller]
    pub fn marker(&self) -> String {
        self.guest_sh(&format!("{MOUNTED}; cat /disk/marker"))
    }

    /// A field of `podman inspect`.
    #[track_caller]
    pub fn inspect(&self, format: &str) -> String {
        self.podman.ok(&["inspect", "--format", format, &self.name])
    }

    /// IPv4 address of a container on one network.
    #[track_caller]
    pub fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// The private directory in the container's bundle.
    #[track_caller]
    pub fn private_dir(&self) -> PathBuf {
        Path::new(&self.inspect("{{.StaticDir}}")).join("crun-qemu")
    }

    /// Output of `crun-qemu-init status`.
    #[track_caller]
    pub fn status(&self) -> String {
        self.exec_ok(&["-", "crun-qemu-init", "status"])
    }

    /// Output of `crun-qemu-init status --json`.
    #[track_caller]
    pub fn status_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.exec_ok(&["-", "crun-qemu-init", "status", "--json"])).unwrap()
    }

    /// Waits for the container's end and returns its exit status.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        let mut waiting = self.podman.command().args(["wait", &self.name]).stdout(Stdio::piped()).spawn().unwrap();
        while waiting.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = waiting.kill();
                panic!("{} is still running", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        text(&waiting.wait_with_output().unwrap().stdout).trim().parse().unwrap()
    }

    /// `podman start`, which must succeed.
    #[track_caller]
    pub fn start(&self) {
        self.podman.ok(&["start", &self.name]);
    }

    /// `podman start`, which must fail and print `line`.
    #[track_caller]
    pub fn start_fails_with(&self, line: &str) {
        let output = self.podman.output(&["start", &self.name]);
        assert!(!output.status.success() && text(&output.stderr).contains(line), "{}", text(&output.stderr));
    }

    /// `podman stop`: the container's exit status. The timeout is so long that a kill means a failure.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        self.podman.ok(&["stop", "-t", "60", &self.name]);
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// Stops the tiny guest in its first boot and starts it to its second.
    #[track_caller]
    pub fn stop_and_start(&self) {
        assert_eq!(self.stop(), 0);
        self.start();
        self.wait_for("TINY READY", 2);
    }

    /// The supervisor's process id on the host.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().collect();
            eprintln!("--- console of {}\n{}\n---", self.name, lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        self.podman.output(&["rm", "-f", "-i", "-v", "-t", "0", &self.name]);
    }
}
