//! Wrong first-boot options: `podman run` itself refuses each of them with one line.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::harness::{Form, Podman, Run, directory, rootfs, run};

/// Creates valid and invalid files for the options.
fn files(dir: &Path) {
    let dirs = [
        "empty", "fifo", "socket", "device", "dangling", "loop", "kind", "gzip", "meta", "long", "good", "vendor",
        "network",
    ];
    symlink("good", dir.join("link")).unwrap();
    dirs.iter().for_each(|name| fs::create_dir(dir.join(name)).unwrap());
    run("mkfifo", &[dir.join("fifo/user-data").to_str().unwrap()]);
    drop(UnixListener::bind(dir.join("socket/user-data")).unwrap());
    symlink("/dev/zero", dir.join("device/user-data")).unwrap();
    symlink("nothing", dir.join("dangling/user-data")).unwrap();
    symlink("user-data", dir.join("loop/user-data")).unwrap();
    let long = vec![b'#'; (16 << 20) + 1];
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOu5lPAOd2WEWCGcrKkN5uL8ug5xgE9jaRjXIUdta+MW me\n";
    for (name, content) in [
        ("kind/user-data", &b"users: []\n"[..]),
        ("gzip/user-data", b"\x1f\x8b\x08nonsense"),
        ("meta/meta-data", b"- a\n- list\n"),
        ("long/user-data", &long),
        ("good/user-data", b"#cloud-config\n{}\n"),
        ("vendor/meta-data", b""),
        ("vendor/vendor-data", b"root:*:19700:0:99999:7:::\n"),
        ("network/meta-data", b""),
        ("network/network-config", b"a: b\n"),
        ("butane.yaml", b"variant: fcos\nversion: 1.5.0\n"),
        ("not.ign", b"hello\n"),
        ("old.ign", br#"{"ignition":{"version":"2.2.0"}}"#),
        ("shape.ign", br#"{"ignition":{"version":"3.4.0"},"passwd":[]}"#),
        ("long.ign", &long),
        ("id", b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"),
        ("id.ppk", b"PuTTY-User-Key-File-3: ssh-ed25519\n"),
        ("empty.pub", b"# nothing\n"),
        ("id.pub", key.as_bytes()),
        ("bad.pub", b"ssh-ed25519 xyz\n"),
    ] {
        fs::write(dir.join(name), content).unwrap();
    }
}

#[test]
fn each_wrong_option_has_its_line() {
    let dir = directory();
    files(dir.path());
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let relative = "a relative path, and the engine does not pass on the working directory (give an absolute path)";
    let versions = "known are 3.0.0, 3.1.0, 3.2.0, 3.3.0, 3.4.0, 3.5.0, 3.6.0";
    let private = "this is a PRIVATE key, which must never reach a guest (give the file that ends in .pub)";
    let kinds = "it must begin with #cloud-config, #!, ## template: jinja, #include or a MIME header";
    let link = "a symbolic link is in it, and none is followed there";
    let password = "empty, or with a newline or another control character";
    // An option, its value with @ for the directory, and the rest of the line after `qemu: OPTION`.
    let table: &[(&str, &str, String)] = &[
        ("--cloud-init", "rel/dir", format!(" rel/dir: {relative}")),
        ("--cloud-init", "", format!(" : {relative}")),
        ("--cloud-init", "@/absent", " @/absent: no such directory".into()),
        ("--cloud-init", "@/id.pub", " @/id.pub: not a directory".into()),
        ("--cloud-init", "@/empty", " @/empty: it contains neither user-data nor meta-data".into()),
        ("--cloud-init", "@/fifo", " @/fifo/user-data: not a regular file".into()),
        ("--cloud-init", "@/socket", " @/socket/user-data: not a regular file".into()),
        ("--cloud-init", "@/device", format!(" @/device/user-data: {link}")),
        ("--cloud-init", "@/dangling", format!(" @/dangling/user-data: {link}")),
        ("--cloud-init", "@/loop", format!(" @/loop/user-data: {link}")),
        ("--cloud-init", "@/kind", format!(" user-data: not a kind that cloud-init knows ({kinds})")),
        ("--cloud-init", "@/gzip", " user-data: gzip data that cannot be unpacked, or is larger than 16 MiB".into()),
        (
            "--cloud-init",
            "@/good/../link",
            " @/good/../link: @/link is a symbolic link that others than root could have made (name the place to which it \
             leads)"
                .into(),
        ),
        ("--cloud-init", "@/vendor", format!(" vendor-data: not a kind that cloud-init knows ({kinds})")),
        (
            "--cloud-init",
            "@/network",
            " network-config: not a network configuration (it needs version: 1 or version: 2, at the top or under network:)"
                .into(),
        ),
        ("--cloud-init", "@/meta", " meta-data: not a mapping of names to plain values".into()),
        ("--cloud-init", "@/long", " @/long/user-data: larger than 16 MiB".into()),
        ("--ignition", "a.ign", format!(" a.ign: {relative}")),
        ("--ignition", "@/absent", " @/absent: no such file".into()),
        ("--ignition", "@/empty", " @/empty: not a regular file".into()),
        ("--ignition", "@/fifo/user-data", " @/fifo/user-data: not a regular file".into()),
        ("--ignition", "@/long.ign", " @/long.ign: larger than 16 MiB".into()),
        (
            "--ignition",
            "@/butane.yaml",
            ": a Butane configuration, which is YAML (translate it: butane --strict FILE)".into(),
        ),
        ("--ignition", "@/not.ign", ": not JSON: expected value at line 1 column 1".into()),
        ("--ignition", "@/old.ign", format!(": ignition.version is \"2.2.0\" ({versions})")),
        ("--ignition", "@/shape.ign", ": passwd is not what the specification says".into()),
        ("--ssh-key", "id.pub", format!(" id.pub: {relative}")),
        ("--ssh-key", "@/absent", " @/absent: no such file".into()),
        ("--ssh-key", "@/id", format!(": {private}")),
        ("--ssh-key", "@/id.ppk", format!(": {private}")),
        ("--ssh-key", "@/bad.pub", ": not a public key in OpenSSH's format".into()),
        ("--ssh-key", "@/empty.pub", ": no public key in it".into()),
        ("--password", "a\nb", format!(": {password}")),
        ("--password", "", format!(": {password}")),
        ("--timeout", "0", ": \"0\" is not a number of seconds from 1 to 86400".into()),
        ("--timeout", "1h", ": \"1h\" is not a number of seconds from 1 to 86400".into()),
    ];
    let dir = dir.path().to_str().unwrap();
    let mut wrong = Vec::new();
    for (option, value, want) in table {
        let value = value.replace('@', dir);
        let run = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &[],
            what: &what,
            options: &[option, &value],
        };
        let (status, stderr) = run.foreground();
        let want = format!(": qemu: {option}{}\n", want.replace('@', dir));
        if !matches!(status, Some(125..=127)) || !stderr.ends_with(&want) || stderr.lines().count() != 1 {
            wrong.push(format!("{option} {value:?}: {status:?}\n  printed  {stderr:?}\n  expected {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
