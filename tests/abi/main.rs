//! The plugin as crun uses it: C programs call through the handler's table, correctly and wrongly.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command, which must succeed.
#[track_caller]
fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let printed = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{printed}", output.status);
    output
}

/// This build's static library. `ABI_ARCHIVE` names another one, for example one with a sanitizer.
fn archive() -> PathBuf {
    if let Some(path) = env::var_os("ABI_ARCHIVE") {
        return path.into();
    }
    // The test is …/target/PROFILE/deps/abi-HASH.
    let profile = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--lib", "--offline"]).current_dir(MANIFEST);
    cargo.env("CARGO_TARGET_DIR", profile.parent().unwrap());
    // util/test.sh sets it for the test binary; build scripts of dependencies would run again.
    cargo.env_remove("RUSTC_BOOTSTRAP");
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ok(&mut cargo);
    profile.join("libcrun_qemu.a")
}

/// The plugin and its core, linked by the Makefile's script.
fn plugin(dir: &Path) -> [PathBuf; 2] {
    let libraries = ["crun-qemu.so", "crun-qemu-core.so"].map(|name| dir.join(name));
    let mut link = Command::new(Path::new(MANIFEST).join("util/link-plugin.sh"));
    ok(link.arg(archive()).arg(dir).arg(&libraries[1]).env("CFLAGS", "-O2 -Werror"));
    libraries
}

/// Compiles a program from sources of the tree and an archive, with sanitizers if the compiler has them.
fn compile(dir: &Path, sources: &[&str], archive: Option<&Path>) -> (PathBuf, bool) {
    let exe = dir.join("crun");
    let command = |sanitizers: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1"]).args(sanitizers);
        cc.args(["include", "crun-handler"].map(|dir| format!("-I{MANIFEST}/{dir}"))).arg("-o").arg(&exe);
        cc.args(sources.iter().map(|name| Path::new(MANIFEST).join(name))).args(archive);
        cc.args(["-Wl,--gc-sections", "-lm", "-ldl", "-lpthread"]);
        cc
    };
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
    let sanitized = command(&sanitizers).output().is_ok_and(|output| output.status.success());
    if !sanitized {
        ok(&mut command(&[]));
    }
    (exe, sanitized)
}

/// A bundle without a VM image, and its root.
fn bundle(dir: &Path) -> [PathBuf; 2] {
    let (bundle, root) = (dir.join("bundle"), dir.join("root"));
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
    [bundle, root]
}

/// The program finished, and the plugin has left nothing in the bundle.
#[track_caller]
fn assert_done(output: &Output, bundle: &Path) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    let left: Vec<_> = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.json"]);
}

#[test]
fn plugin_handles_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let ([so, core], [bundle, root]) = (plugin(dir.path()), bundle(dir.path()));
    let (crun, _) = compile(dir.path(), &["tests/abi/crun.c"], None);
    let output = ok(Command::new(&crun).arg(&so).args([&bundle, &root]));
    assert_done(&output, &bundle);

    // With half of it installed, the plugin returns one line for crun to print.
    fs::remove_file(&core).unwrap();
    let output = Command::new(crun).arg(so).output().unwrap();
    let want = format!(
        "qemu: plugin: {}: cannot open shared object file: No such file or directory \
         (crun-qemu is not installed whole: make install)\n",
        core.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{}", String::from_utf8_lossy(&output.stderr));
}

/// The program contains the handler and the core, so that the sanitizers see all their accesses.
#[test]
fn wrong_calls_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let [bundle, root] = bundle(dir.path());
    let sources = ["tests/abi/hostile.c", "crun-handler/handler.c", "crun-handler/error.c"];
    let (crun, sanitized) = compile(dir.path(), &sources, Some(&archive()));
    if !sanitized {
        println!("SKIP: wrong_calls_do_no_harm: sanitizers: the compiler has none; without them");
    }
    let mut command = Command::new(crun);
    command.args([&bundle, &root]).env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
    assert_done(&ok(&mut command), &bundle);
}

#[test]
fn plugin_is_small_and_needs_only_libc() {
    let dir = tempfile::tempdir().unwrap();
    let libraries = plugin(dir.path());
    let lines = |command: &mut Command| -> Vec<String> {
        String::from_utf8(ok(command).stdout).unwrap().lines().map(|l| l.trim().to_owned()).collect()
    };
    for so in &libraries {
        let needed = lines(Command::new("readelf").args(["-dW"]).arg(so));
        let needed: Vec<_> = needed.iter().filter(|l| l.contains("(NEEDED)")).collect();
        assert!(needed.iter().all(|l| l.contains("[libc.so.") || l.contains("[ld-linux")), "{needed:?}");
        // Weak symbols are those that the standard library uses only if libc has them.
        let undefined = lines(Command::new("nm").args(["-DW", "--undefined-only"]).arg(so));
        let foreign = |s: &&String| s.starts_with("U ") && !s.contains("@GLIBC_") || s.contains("libcrun");
        let foreign: Vec<_> = undefined.iter().filter(foreign).collect();
        assert!(!undefined.is_empty());
        assert!(foreign.is_empty(), "{foreign:?}");
    }
    let defined = |so| lines(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(so));
    assert_eq!(defined(&libraries[0]), ["run_oci_handler_get_handler"]);
    assert_eq!(defined(&libraries[1]), ["crun_qemu_core"]);
    // crun maps the plugin for every container.
    assert!(fs::metadata(&libraries[0]).unwrap().len() < 32 << 10);
}
