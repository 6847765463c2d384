//! The plugin as crun sees it: a C program loads it and calls through the handler's table.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// The plugin and its core, made as the Makefile makes them, from the static library of this build.
fn plugin(dir: &Path) -> [PathBuf; 2] {
    // …/target/PROFILE/deps/abi-HASH
    let profile = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--lib", "--offline"])
        .current_dir(MANIFEST)
        .env("CARGO_TARGET_DIR", profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ok(&mut cargo);
    let made = ["crun-qemu.so", "crun-qemu-core.so"].map(|name| dir.join(name));
    let mut link = Command::new(Path::new(MANIFEST).join("util/link-plugin.sh"));
    ok(link.arg(profile.join("libcrun_qemu.a")).arg(dir).arg(&made[1]).env("CFLAGS", "-O2 -Werror"));
    made
}

/// Compiles the program that plays crun, with AddressSanitizer where the compiler has it.
fn player(dir: &Path) -> PathBuf {
    let exe = dir.join("crun");
    let compile = |flags: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g"]).args(flags);
        cc.args([&format!("-I{MANIFEST}/include"), "-o"]).arg(&exe).arg(Path::new(MANIFEST).join("tests/abi/crun.c"));
        cc
    };
    let sanitized = compile(&["-fsanitize=address,undefined"]).output().is_ok_and(|o| o.status.success());
    if !sanitized {
        ok(&mut compile(&[]));
    }
    exe
}

/// A container without a VM image.
fn bundle(dir: &Path) -> PathBuf {
    let bundle = dir.join("bundle");
    let root = dir.join("root");
    fs::create_dir_all(&bundle).unwrap();
    fs::create_dir_all(&root).unwrap();
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"args": [""], "cwd": "/", "env": ["A=b"], "user": {"uid": 1000, "gid": 1001}},
        "root": {"path": root},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
        "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}],
                                "memory": {"limit": 536870912, "swap": 1073741824},
                                "unified": {"memory.high": "500000000"}}}
    });
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

#[test]
fn plugin_takes_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let ([so, core], player, bundle) = (plugin(dir.path()), player(dir.path()), bundle(dir.path()));
    let output = ok(Command::new(&player).arg(&so).arg(&bundle).arg(dir.path().join("root")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    let left: Vec<_> = fs::read_dir(&bundle).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["config.json"]);

    // Half of it installed: one line, which crun hands on.
    fs::remove_file(&core).unwrap();
    let output = Command::new(player).arg(so).output().unwrap();
    let want = format!(
        "qemu: plugin: {}: cannot open shared object file: No such file or directory \
         (crun-qemu is not installed whole: make install)\n",
        core.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn plugin_is_small_and_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = plugin(dir.path());
    let lines = |command: &mut Command| -> Vec<String> {
        String::from_utf8(ok(command).stdout).unwrap().lines().map(|l| l.trim().to_owned()).collect()
    };
    for so in &made {
        let needed = lines(Command::new("readelf").args(["-dW"]).arg(so));
        let needed: Vec<_> = needed.iter().filter(|l| l.contains("(NEEDED)")).collect();
        assert!(needed.iter().all(|l| l.contains("[libc.so.") || l.contains("[ld-linux")), "{needed:?}");
        // Weak ones are the standard library's, which looks whether libc has them.
        let wanted = lines(Command::new("nm").args(["-DW", "--undefined-only"]).arg(so));
        let foreign = |s: &&String| s.starts_with("U ") && !s.contains("@GLIBC_") || s.contains("libcrun");
        let foreign: Vec<_> = wanted.iter().filter(foreign).collect();
        assert!(!wanted.is_empty());
        assert!(foreign.is_empty(), "{foreign:?}");
    }
    let defined = |so| lines(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(so));
    assert_eq!(defined(&made[0]), ["run_oci_handler_get_handler"]);
    assert_eq!(defined(&made[1]), ["crun_qemu_create", "crun_qemu_exec", "crun_qemu_network", "crun_qemu_run"]);
    // crun maps it for every container.
    assert!(fs::metadata(&made[0]).unwrap().len() < 32 << 10);
}
