//! podman as root and as an ordinary user, and the ways to name the runtime.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{run, text};

/// User who runs rootless podman.
const USER: &str = "crun-qemu-test";

/// User who runs podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Podman {
    /// Root.
    Rootful,
    /// An ordinary user with subordinate ids.
    Rootless,
}

/// Way to name the VM's runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The host's crun and an annotation.
    Plugin,
    /// The installed runtime executable.
    Executable,
    /// The runtime executable in the build tree.
    BuildTree,
}

impl Form {
    /// podman's options that select it.
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
    /// podman without arguments.
    pub fn command(self) -> Command {
        self.tool("podman")
    }

    /// `program`, run by the user who runs podman.
    pub fn tool(self, program: impl AsRef<OsStr>) -> Command {
        if self == Self::Rootful {
            return Command::new(program);
        }
        let home = rootless_home();
        // Not runuser, which detaches the command from the terminal.
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program).current_dir(&home);
        command.env("HOME", &home).env("XDG_RUNTIME_DIR", home.join("run")).env_remove("XDG_CACHE_HOME");
        command
    }

    /// Gives `dir` and everything below it to the user who runs podman.
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

    /// Runs podman, which must succeed, and returns its trimmed output.
    #[track_caller]
    pub fn ok(self, args: &[impl AsRef<OsStr> + std::fmt::Debug]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "podman {args:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_string()
    }
}

/// Home directory of the user who runs rootless podman; creates the user and the directories if they are missing.
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

/// A name that nothing else of this run has.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
