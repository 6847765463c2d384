//! The plugin under a crun that calls everything wrongly: one program of handler, core and caller, under sanitizers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = [&output.stdout, &output.stderr].map(|bytes| text(bytes)).concat();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// Cargo's static library of this build; by `ABI_ARCHIVE` one made otherwise, with a sanitizer in it.
fn archive() -> PathBuf {
    if let Some(path) = env::var_os("ABI_ARCHIVE") {
        return path.into();
    }
    // …/target/PROFILE/deps/abi_hostile-HASH
    let profile = env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--lib", "--offline"]).current_dir(MANIFEST);
    cargo.env("CARGO_TARGET_DIR", profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    ok(&mut cargo);
    profile.join("libcrun_qemu.a")
}

fn program(dir: &Path) -> PathBuf {
    let at = |name: &str| Path::new(MANIFEST).join(name);
    let (exe, archive) = (dir.join("hostile"), archive());
    let compile = |sanitize: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-D_GNU_SOURCE"]).args(sanitize);
        cc.arg(format!("-I{MANIFEST}/include")).arg(format!("-I{MANIFEST}/crun-handler")).arg("-o").arg(&exe);
        cc.args(["tests/abi/hostile.c", "crun-handler/handler.c", "crun-handler/error.c"].map(at)).arg(&archive);
        cc.args(["-Wl,--gc-sections", "-lm", "-ldl", "-lpthread"]);
        cc
    };
    let sanitized = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
    if !compile(&sanitized).output().is_ok_and(|output| output.status.success()) {
        println!("SKIP: nothing_done_wrongly_does_harm: sanitizers: the compiler has none; without them");
        ok(&mut compile(&[]));
    }
    exe
}

#[test]
fn nothing_done_wrongly_does_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (bundle, root) = (dir.path().join("bundle"), dir.path().join("root"));
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
    let program = program(dir.path());
    let output =
        ok(Command::new(program).arg(&bundle).arg(&root).env("ASAN_OPTIONS", "detect_stack_use_after_return=1"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    let left: Vec<_> = fs::read_dir(&bundle).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.json"], "nothing of ours is left");
}
