//! First boot and exec where the engine is an ordinary user's, whose own policy file lets it read a password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{ends, options, statuses, streams, terminal};
use crate::first_boot::has_password;
use crate::harness::{Form, Podman, Run, directory, rootfs, rootless_home, text};

/// The user's policy file, removed again when this is dropped.
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
fn on_a_cloud_image() {
    let seed = directory();
    let path = |name: &str| seed.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("user-data"), "#cloud-config\nwrite_files: [{path: /etc/theirs, content: theirs}]\n").unwrap();
    fs::write(path("password"), "from a file\n").unwrap();
    fs::set_permissions(path("password"), fs::Permissions::from_mode(0o600)).unwrap();
    let root = rootfs(Podman::Rootless, "cloud");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (seed_dir, password) = (path(""), path("password"));
    let run = |options| Run {
        podman: Podman::Rootless,
        form: Form::Executable,
        podman_options: &["--memory", "768m"],
        what: &what,
        options,
    };
    let our_options = ["--cloud-init", &seed_dir, "--password-file", &password];
    // What only root can read, and what no policy allows.
    let policy = Policy::allow();
    let (_, said) = run(&our_options).refused();
    // podman has words of its own for that.
    assert!(said.contains(&format!(": qemu: --password-file {password}: Permission denied")), "{said}");
    drop(policy);
    let own = rootless_home().join(".config/crun-qemu/policy");
    let (_, said) = run(&our_options).refused();
    assert!(said.ends_with(&format!("into /etc/crun-qemu/policy or {})\n", own.display())), "{said}");

    Podman::Rootless.own(seed.path());
    let policy = Policy::allow();
    let vm = run(&our_options).detached();
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
