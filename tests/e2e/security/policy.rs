//! Policy files decide about options that read host files.

use std::fs;
use std::path::Path;

use crate::harness::{Form, Podman, Run, Vm, directory, mount_namespace, rootfs, text};

const ALLOW: &str = "host-paths = allow\n";

/// Error line of `podman run` with these policies of the system and of root, which no other process sees.
fn refusal_line(run: &Run, system: &str, own: &str) -> String {
    let over = directory();
    for (policy, dir) in [(system, "etc/crun-qemu"), (own, "root/.config/crun-qemu")] {
        fs::create_dir_all(over.join(dir)).unwrap();
        if !policy.is_empty() {
            fs::write(over.join(dir).join("policy"), policy).unwrap();
        }
    }
    let vm = Vm::new(Podman::Rootful);
    let mut args = run.args(&vm.name);
    args.insert(1, "-d".into());
    let script = r#"for d in etc root; do
        mkdir "$0/$d.work" && mount -t overlay none -o "lowerdir=/$d,upperdir=$0/$d,workdir=$0/$d.work" "/$d" || exit
        done; exec podman "$@""#;
    let output = mount_namespace(script).arg(over.path()).args(args).output().unwrap();
    assert!(matches!(output.status.code(), Some(125..=127)), "{}", text(&output.stderr));
    let stderr = text(&output.stderr);
    stderr.lines().find_map(|line| Some(line[line.find(": qemu: ")? + 2..].to_owned())).unwrap_or(stderr)
}

/// Error line of `--password-file` with this path.
fn with_password_file(path: &Path, system: &str, own: &str) -> String {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let options = ["--password-file", path.to_str().unwrap()];
    let run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &options };
    refusal_line(&run, system, own)
}

#[test]
fn file_of_the_host_is_read_if_no_policy_denies_it() {
    let (system, own) = ("/etc/crun-qemu/policy", "/root/.config/crun-qemu/policy");
    let write = format!("write the line host-paths = allow into {system} or {own}");
    let denies = "denies reading files of the host (line 1 of it would have to be: host-paths = allow)";
    let allowed = "qemu: --password-file /nowhere/password: no such file";
    for (system_policy, own_policy, want) in [
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
        let line = with_password_file(Path::new("/nowhere/password"), system_policy, own_policy);
        assert_eq!(line, want, "{system_policy:?} {own_policy:?}");
    }
}

#[test]
fn invalid_password_file_is_refused() {
    let dir = directory();
    let control = "empty, or with a newline or another control character";
    for (name, content, want) in [
        ("empty", &b"\nsecond line\n"[..], format!(": {control}")),
        ("control", b"a\tb\n", format!(": {control}")),
        ("bytes", b"\xff\n", ": its first line is not UTF-8".into()),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(with_password_file(&path, ALLOW, ""), format!("qemu: --password-file{want}"));
    }
    let path = dir.path();
    let want = format!("qemu: --password-file {}: not a regular file", path.display());
    assert_eq!(with_password_file(path, ALLOW, ""), want);
}
