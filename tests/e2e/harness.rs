//! Drives real podman; whatever a test makes carries a label and is removed when the test is over, passed or not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::console::Console;

/// What the next run sweeps away.
pub const LABEL: &str = "crun-qemu-test";
/// A guest that has not said what is expected after this time never will: an idle machine takes a twentieth.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The user that rootless tests are run as.
const USER: &str = "crun-qemu-test";

/// Who runs podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Podman {
    /// Root.
    Rootful,
    /// A user with nothing but its subordinate ids.
    Rootless,
}

/// How the VM's runtime is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Stock crun and an annotation.
    Plugin,
    /// The runtime executable as installed.
    Executable,
    /// The runtime executable in the build tree.
    BuildTree,
}

impl Form {
    /// podman's options for it.
    pub fn options(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Plugin => &["--runtime", "crun", "--annotation", "run.oci.handler=qemu"],
            Self::Executable => &["--runtime", "/usr/local/bin/crun-qemu"],
            Self::BuildTree => &["--runtime", env!("CARGO_BIN_EXE_crun-qemu")],
        };
        words.iter().map(ToString::to_string).collect()
    }
}

impl Podman {
    /// A command of podman's, complete but for its arguments.
    pub fn command(self) -> Command {
        self.tool("podman")
    }

    /// A command of the one who runs podman.
    pub fn tool(self, program: impl AsRef<OsStr>) -> Command {
        if self == Self::Rootful {
            return Command::new(program);
        }
        let home = rootless_home();
        // Not runuser, which takes the terminal away.
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program).current_dir(&home);
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", home.join("run")).env_remove("XDG_CACHE_HOME");
        command
    }

    /// Makes everything below `dir` the property of the user that runs podman.
    pub fn own(self, dir: &Path) {
        if self == Self::Rootless {
            rootless_home();
            run("chown", &["-hR", USER, dir.to_str().unwrap()]);
        }
    }

    /// Runs podman to its end.
    pub fn output(self, args: &[impl AsRef<OsStr>]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().expect("podman")
    }

    /// Runs podman, which has to succeed, and returns what it printed, trimmed.
    #[track_caller]
    pub fn ok(self, args: &[impl AsRef<OsStr> + std::fmt::Debug]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "podman {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    }
}

/// The home of the user that runs rootless podman; makes the user and its directories where they are missing.
pub fn rootless_home() -> PathBuf {
    static MADE: Mutex<bool> = Mutex::new(false);
    let home = PathBuf::from("/var/tmp").join(USER);
    let mut made = MADE.lock().unwrap_or_else(|e| e.into_inner());
    if !*made {
        let known = Command::new("id").args(["-u", USER]).output().unwrap().status.success();
        if !known {
            run("useradd", &["--create-home", "--home-dir", home.to_str().unwrap(), "--shell", "/bin/sh", USER]);
        }
        run("install", &["-d", "-m", "700", "-o", USER, home.join("run").to_str().unwrap()]);
        *made = true;
    }
    home
}

/// Runs a tool that has to succeed and returns what it printed, trimmed.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_string()
}

/// Bytes as text, whatever they are.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The disk of a test guest, made where it is missing.
pub fn guest(name: &str) -> PathBuf {
    run(source("util/guest.sh").to_str().unwrap(), &[name]).into()
}

/// An empty directory that any user may look into.
pub fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("crun-qemu-test-").tempdir_in("/var/tmp").unwrap();
    run("chmod", &["755", dir.path().to_str().unwrap()]);
    dir
}

/// A root that holds one guest's disk and nothing else. podman makes `/etc` in it, so it has to be its user's own.
pub fn rootfs(podman: Podman, guest_name: &str) -> TempDir {
    let (dir, disk) = (directory(), guest(guest_name));
    podman.own(dir.path());
    std::fs::hard_link(&disk, dir.path().join("disk.qcow2"))
        .or_else(|_| std::fs::copy(&disk, dir.path().join("disk.qcow2")).map(drop))
        .unwrap();
    dir
}

/// A name that no other container of this run has.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container with a VM in it; removed with it goes everything of it.
pub struct Vm {
    pub podman: Podman,
    pub name: String,
}

/// What `podman run` is given: podman's own options, what to run, ours.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub podman: Podman,
    pub form: Form,
    pub podman_options: &'a [&'a str],
    /// `--rootfs DIR` or an image.
    pub what: &'a [&'a str],
    pub options: &'a [&'a str],
}

impl Run<'_> {
    /// The arguments of podman, with `name` for the container.
    pub fn args(&self, name: &str) -> Vec<String> {
        let mut args: Vec<String> = ["run", "--name", name, "--label", LABEL].map(str::to_string).to_vec();
        args.extend(self.form.options());
        let words = self.podman_options.iter().chain(self.what).chain(&["", "--emulated"]).chain(self.options);
        args.extend(words.map(ToString::to_string));
        args
    }

    /// `podman run -d`, which has to succeed.
    #[track_caller]
    pub fn detached(&self) -> Vm {
        let vm = Vm { podman: self.podman, name: unique(LABEL) };
        let mut args = self.args(&vm.name);
        args.insert(1, "-d".into());
        self.podman.ok(&args);
        vm
    }

    /// `podman run` of something that cannot start: the status and stderr. Nothing may be left behind.
    pub fn refused(&self) -> (Option<i32>, String) {
        let vm = Vm { podman: self.podman, name: unique(LABEL) };
        let mut args = self.args(&vm.name);
        args.insert(1, "--rm".into());
        let output = self.podman.output(&args);
        (output.status.code(), text(&output.stderr))
    }

    /// `podman run` in the foreground, on a terminal (`tty`) or on pipes.
    pub fn attached(&self, tty: bool) -> (Vm, Console) {
        let vm = Vm { podman: self.podman, name: unique(LABEL) };
        let mut args = self.args(&vm.name);
        args.insert(1, if tty { "-it".into() } else { "-i".into() });
        let mut command = self.podman.command();
        command.args(&args);
        let console = if tty { Console::on_terminal(command) } else { Console::on_pipes(command) };
        (vm, console)
    }
}

/// The tiny guest from a `--rootfs` directory, with no options but `podman_options`.
pub fn tiny<'a>(podman: Podman, form: Form, what: &'a [&'a str], podman_options: &'a [&'a str]) -> Run<'a> {
    Run { podman, form, podman_options, what, options: &[] }
}

impl Vm {
    /// Everything on the console so far.
    pub fn logs(&self) -> String {
        let output = self.podman.output(&["logs", &self.name]);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Waits until the console says `needle` for the `times`th time, and returns all of it.
    #[track_caller]
    pub fn wait_for(&self, needle: &str, times: usize) -> String {
        let mut command = self.podman.command();
        command.args(["logs", "-f", &self.name]);
        Console::expect_again(command, || self.inspect("{{.State.Running}}") == "true", needle, times)
    }

    /// `podman exec` with these arguments after the container's name.
    pub fn exec(&self, args: &[&str]) -> Output {
        let mut all = vec!["exec", &self.name];
        all.extend(args);
        self.podman.output(&all)
    }

    /// `podman exec` with options of podman's own, to be run as the test likes.
    pub fn exec_command(&self, options: &[&str], args: &[&str]) -> Command {
        let mut command = self.podman.command();
        command.arg("exec").args(options).arg(&self.name).args(args).stdin(Stdio::null());
        command
    }

    /// `podman exec` that has to succeed: what it printed, trimmed.
    #[track_caller]
    pub fn exec_ok(&self, args: &[&str]) -> String {
        let output = self.exec(args);
        assert!(output.status.success(), "exec {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    }

    /// A field of `podman inspect`.
    #[track_caller]
    pub fn inspect(&self, format: &str) -> String {
        self.podman.ok(&["inspect", "--format", format, &self.name])
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

    /// `podman stop`, with so much time that a kill means a failure, and the container's exit status.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        self.podman.ok(&["stop", "-t", "60", &self.name]);
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// The host's process id of the supervisor.
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
