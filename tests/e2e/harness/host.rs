//! The host: tools, directories, devices, mounts, and views of the host that only one command has, since tests run side
//! by side.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Podman;

/// Runs a tool, which must succeed, and returns its trimmed output.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_string()
}

/// Bytes as text; invalid UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Disk of a test guest; builds it if it is missing.
pub fn guest(name: &str) -> PathBuf {
    run(source("util/guest.sh").to_str().unwrap(), &[name]).into()
}

/// A directory that is removed when this is dropped.
pub struct Dir(TempDir);

impl Dir {
    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Path of a file in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Path of a file in the directory, as text.
    pub fn at(&self, name: &str) -> String {
        self.join(name).to_str().unwrap().to_string()
    }

    /// podman's arguments that make the directory the container's root.
    pub fn as_root(&self) -> [&str; 2] {
        ["--rootfs", self.path().to_str().unwrap()]
    }
}

/// An empty directory that any user may read.
pub fn directory() -> Dir {
    let dir = tempfile::Builder::new().prefix("crun-qemu-test-").tempdir_in("/var/tmp").unwrap();
    run("chmod", &["755", dir.path().to_str().unwrap()]);
    Dir(dir)
}

/// A root directory with one guest's disk and nothing else. podman creates `/etc` in it, so podman's user owns it.
pub fn rootfs(podman: Podman, guest_name: &str) -> Dir {
    let (dir, disk) = (directory(), guest(guest_name));
    podman.own(dir.path());
    fs::hard_link(&disk, dir.join("disk.qcow2"))
        .or_else(|_| fs::copy(&disk, dir.join("disk.qcow2")).map(drop))
        .unwrap();
    dir
}

/// Writes an executable script.
pub fn host_script(dir: &Dir, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Compiles a C program of the source tree for any guest.
pub fn static_program(path: &str) -> Vec<u8> {
    let (dir, from) = (directory(), source(path));
    run("cc", &["-static", "-O", "-Wall", "-Werror", "-o", &dir.at("program"), from.to_str().unwrap()]);
    fs::read(dir.join("program")).unwrap()
}

/// A command that runs a shell script in a mount namespace of its own; its arguments become `$0` and the following.
pub fn mount_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", script]).stdin(Stdio::null());
    command
}

/// Root's podman without arguments, which sees `source` mounted over `target`.
pub fn podman_with(source: &Path, target: &str) -> Command {
    let mut command = mount_namespace(r#"mount --bind "$0" "$1"; shift; exec podman "$@""#);
    command.arg(source).arg(target);
    command
}

/// A loop device, detached when this is dropped.
pub struct Loop(pub String);

impl Loop {
    /// Attaches `file`.
    pub fn new(file: &Path) -> Self {
        Self::with(&[], file)
    }

    /// Attaches `file` with options of losetup.
    pub fn with(options: &[&str], file: &Path) -> Self {
        Self(run("losetup", &[options, &["-f", "--show", file.to_str().unwrap()]].concat()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let output = Command::new("losetup").args(["-d", &self.0]).output().unwrap();
        // A second panic would abort all tests.
        assert!(output.status.success() || std::thread::panicking(), "losetup -d: {}", text(&output.stderr));
    }
}

/// A mount, detached when this is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `source` over `target`.
    pub fn new(options: &[&str], source: &Path, target: &Path) -> Self {
        run("mount", &[options, &[source.to_str().unwrap(), target.to_str().unwrap()]].concat());
        Self(target.into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // podman may have unmounted it already, to remove a container.
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}
