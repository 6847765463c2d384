//! First boot and exec with rootless podman, whose user's policy file allows reading a password file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::commands::{ends, options, statuses, streams, terminal};
use crate::first_boot::has_password;
use crate::harness::{Form, Podman, Run, directory, rootfs, rootless_home, text};

/// The user's policy file, removed when this is dropped.
struct Policy(PathBuf);

impl Policy {
    fn allow() -> Self {
        let dir = rootless_home().join(".config/crun-qemu");
        assert!(Podman::Rootless.tool("mkdir").arg("-p").arg(&dir).status().unwrap().success());
        fs::write(dir.join("policy"), "host-paths = allow\n").unwrap();
        Self(dir.join("policy"))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn first_boot_and_exec_work_rootless() {
    let seed = directory();
    let path = |name: &str| seed.at(name);
    fs::write(path("user-data"), "#cloud-config\nwrite_files: [{path: /etc/theirs, content: theirs}]\n").unwrap();
    fs::write(path("password"), "from a file\n").unwrap();
    fs::set_permissions(path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let root = rootfs(Podman::Rootless, "cloud");
    let what = root.as_root();
    let (seed_dir, password) = (path(""), path("password"));
    let run = |options| Run {
        podman: Podman::Rootless,
        form: Form::Executable,
        podman_options: &["--memory", "768m"],
        what: &what,
        options,
    };
    let own_options = ["--cloud-init", &seed_dir, "--password-file", &password];
    // Files that only root can read, and a host without a policy.
    let policy = Policy::allow();
    let (_, stderr) = run(&own_options).foreground();
    // podman replaces the rest of such a line by a text of its own.
    assert!(stderr.contains(&format!(": qemu: --password-file {password}: Permission denied")), "{stderr}");
    drop(policy);
    let own = rootless_home().join(".config/crun-qemu/policy");
    let (_, stderr) = run(&own_options).foreground();
    assert!(stderr.ends_with(&format!("into /etc/crun-qemu/policy or {})\n", own.display())), "{stderr}");

    Podman::Rootless.own(seed.path());
    let policy = Policy::allow();
    let vm = run(&own_options).detached();
    drop(policy);
    assert!(!vm.podman.ok(&["inspect", &vm.name]).contains("from a file"));
    let output = vm.exec(&["debian", "cloud-init", "status", "--wait", "--long"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(vm.exec_ok(&["root", "cat", "/etc/theirs"]), "theirs");
    has_password(&vm, "debian", "from a file");
    let hard = ["", "a b", "it's", "$HOME `id`", "\n", "*", "\u{e4}"];
    let printf = [&["debian", "printf", "<%s>"][..], &hard].concat();
    ends(&vm.exec(&printf), 0, &hard.map(|arg| format!("<{arg}>")).concat(), "");
    statuses(&vm, "debian");
    streams(&vm, "debian", 2);
    options(&vm, "debian");
    terminal(&vm, "debian");
    assert_eq!(vm.stop(), 0);
}
