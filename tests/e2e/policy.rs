//! The policy files decide over options that read files of the host's.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, text, unique};

const ALLOW: &str = "host-paths = allow\n";

/// What `podman run` says where the system's policy and root's own are these, which nobody else sees.
fn said(run: &Run, system: &str, own: &str) -> String {
    let over = directory();
    for (policy, dir) in [(system, "etc/crun-qemu"), (own, "root/.config/crun-qemu")] {
        fs::create_dir_all(over.path().join(dir)).unwrap();
        if !policy.is_empty() {
            fs::write(over.path().join(dir).join("policy"), policy).unwrap();
        }
    }
    let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
    let mut args = run.args(&vm.name);
    args.insert(1, "-d".into());
    let script = r#"for d in etc root; do
        mkdir "$0/$d.work" && mount -t overlay none -o "lowerdir=/$d,upperdir=$0/$d,workdir=$0/$d.work" "/$d" || exit
        done; exec podman "$@""#;
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-c", script]).arg(over.path()).args(args).output().unwrap();
    assert!(matches!(output.status.code(), Some(125..=127)), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    said.lines().find_map(|line| Some(line[line.find(": qemu: ")? + 2..].to_owned())).unwrap_or(said)
}

/// Refused is `--password-file` of `path`.
fn with_password_file(path: &Path, system: &str, own: &str) -> String {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--password-file", path.to_str().unwrap()];
    let run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &options };
    said(&run, system, own)
}

#[test]
fn who_has_the_last_word() {
    let (system, own) = ("/etc/crun-qemu/policy", "/root/.config/crun-qemu/policy");
    let write = format!("write the line host-paths = allow into {system} or {own}");
    let denies = "denies reading files of the host (line 1 of it would have to be: host-paths = allow)";
    let allowed = "qemu: --password-file /nowhere/password: no such file";
    for (system_says, own_says, want) in [
        ("", "", format!("qemu: --password-file: no policy allows reading files of the host ({write})")),
        (
            "vfio = deny",
            "# host-paths = allow",
            format!("qemu: --password-file: no policy allows reading files of the host ({write})"),
        ),
        ("host-paths = deny", ALLOW, format!("qemu: --password-file: {system} {denies}")),
        (ALLOW, "host-paths = deny", format!("qemu: --password-file: {own} {denies}")),
        (ALLOW, "", allowed.into()),
        ("", ALLOW, allowed.into()),
        ("host-path = allow", ALLOW, format!(r#"qemu: {system} line 1: "host-path" is unknown (host-paths, vfio)"#)),
        (
            "",
            "\nhost-paths allow",
            format!(r#"qemu: {own} line 2: "host-paths allow" is not KEY = allow or KEY = deny"#),
        ),
    ] {
        let said = with_password_file(Path::new("/nowhere/password"), system_says, own_says);
        assert_eq!(said, want, "{system_says:?} {own_says:?}");
    }
}

#[test]
fn what_is_no_password_file() {
    let dir = directory();
    let control = "empty, or with a newline or another control character";
    for (name, content, want) in [
        ("empty", &b"\nsecond line\n"[..], format!(": {control}")),
        ("control", b"a\tb\n", format!(": {control}")),
        ("bytes", b"\xff\n", ": its first line is not UTF-8".into()),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(with_password_file(&path, ALLOW, ""), format!("qemu: --password-file{want}"));
    }
    let path = dir.path();
    let want = format!("qemu: --password-file {}: not a regular file", path.display());
    assert_eq!(with_password_file(path, ALLOW, ""), want);
}
