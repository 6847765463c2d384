//! Ordinary containers with the plugin in crun, which loads for each of them and must not change anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Dir, LABEL, Podman, directory, run, source, text};

/// A root with busybox and nothing else.
fn busybox() -> Dir {
    let root = directory();
    for dir in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "echo", "id", "env", "cat", "grep", "awk", "pwd", "ls", "sort"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    root
}

/// The host's crun with a handlers directory that does not exist, thus without the plugin.
fn crun_without_plugin(dir: &Path) -> PathBuf {
    let (from, to) = (b"/crun/handlers\0", b"/crun/no-plugs\0");
    let mut crun = fs::read(run("sh", &["-c", "command -v crun"])).unwrap();
    let at = crun.windows(from.len()).position(|window| window == from).expect("crun has a handlers directory");
    crun[at..at + to.len()].copy_from_slice(to);
    let path = dir.join("crun");
    fs::write(&path, crun).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn ordinary_containers_do_not_change() {
    let (root, dir) = (busybox(), directory());
    let without = crun_without_plugin(dir.path());
    let without = without.to_str().unwrap();
    assert!(run("crun", &["--version"]).contains("+QEMU"), "the plugin is not installed");
    assert!(!run(without, &["--version"]).contains("+QEMU"));

    let commands: [(&[&str], &[&str]); 7] = [
        (&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]),
        (&["-e", "A=b"], &["sh", "-c", "env | grep -v HOSTNAME; id; pwd; ls /"]),
        (&["--user", "1000:1000"], &["sh", "-c", "id; grep -E 'Cap|Seccomp|NoNewPrivs|Threads' /proc/self/status"]),
        // Mounts with their options, and open descriptors. podman's order of mounts differs from run to run.
        (&["--tmpfs", "/tmp"], &["sh", "-c", "awk '{ print $5, $6 }' /proc/self/mountinfo | sort; ls /proc/self/fd"]),
        (&["--annotation", "run.oci.qemu.firmware=bios"], &["echo", "no handler was asked for"]),
        (&[], &["no-such-command"]),
        (&[], &["sh", "-c", "kill -9 $$"]),
    ];
    for (options, command) in commands {
        let with_runtime = |crun: &str| {
            let mut args = vec!["run", "--rm", "--label", LABEL, "--hostname", "h", "--runtime", crun];
            args.extend(options);
            args.extend(root.as_root());
            args.extend(command);
            let output = Podman::Rootful.output(&args);
            // podman prints the runtime's name.
            (output.status.code(), text(&output.stdout), text(&output.stderr).replace(crun, "crun"))
        };
        assert_eq!(with_runtime("crun"), with_runtime(without), "{options:?} {command:?}");
    }
}

#[test]
fn plugin_needs_only_libc() {
    for (name, symbol) in [("crun-qemu.so", "dlopen@GLIBC_"), ("crun-qemu-core.so", "execve@GLIBC_")] {
        let library = source("build").join(name);
        let library = library.to_str().unwrap();
        let needed = run("sh", &["-c", &format!("ldd {library} | awk '{{ print $1 }}' | sort")]);
        assert_eq!(needed, "/lib64/ld-linux-x86-64.so.2\nlibc.so.6\nlinux-vdso.so.1");
        let undefined = run("nm", &["-D", "--undefined-only", library]);
        let foreign: Vec<_> = undefined
            .lines()
            .filter(|line| !line.contains("@GLIBC_"))
            // Weak symbols may be missing.
            .filter(|line| !line.trim_start().starts_with("w "))
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(undefined.contains(symbol), "{undefined}");
    }
}

/// crun maps only the small plugin for an ordinary container.
#[test]
fn core_is_not_loaded_for_ordinary_containers() {
    let (root, dir) = (busybox(), directory());
    let trace = dir.join("trace");
    let args =
        ["run", "--rm", "--label", LABEL, "--runtime", "crun", "--rootfs", root.path().to_str().unwrap(), "echo"];
    let mut strace = Command::new("strace");
    strace.args(["-f", "-z", "-e", "trace=openat", "-o"]).arg(&trace).arg("podman").args(args);
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let opened = fs::read_to_string(&trace).unwrap();
    assert!(opened.contains("/crun-qemu.so\""), "{opened}");
    assert!(!opened.contains("crun-qemu-core.so"), "{opened}");
}
