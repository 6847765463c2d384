//! Verification and edits, on structs of every known layout.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::ptr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fixture::{build, leak, linux, resources};
use super::layout::{LAYOUTS, Layout};
use super::sys::*;
use super::*;
use crate::edits::{DeviceRule, Edits, Mount, MountEdit};
use crate::request::Bundle;

/// A configuration as podman writes it. Its first device rule has no numbers.
fn podman() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {"args": [""], "cwd": "/nowhere", "env": ["PATH=/bin", "LD_PRELOAD=/x", "EMPTY="]},
        "root": {"path": "/storage/merged"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/data", "source": "/srv", "type": "bind", "options": ["rbind"]}
        ],
        "linux": {"devices": [
            {"type": "b", "path": "/in/guest", "major": 7, "minor": 0}, {"type": "c", "path": "/dev/kvm"}
        ], "resources": {"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 5, "minor": 0, "access": "rw"},
            {"allow": true, "type": "c", "major": 136, "access": "rwm"}
        ],
        "memory": {"limit": 5000, "swap": 9000, "reservation": 70, "swappiness": 0, "disableOOMKiller": false},
        "unified": {"memory.high": "4000", "memory.max": "5000", "memory.low": "70", "memory.swap.max": "max"}}}
    })
}

fn edits() -> Edits {
    let bind = |destination: &str| Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: "/usr".into(),
        options: vec!["rbind".into(), "ro".into()],
    };
    Edits {
        root: PathBuf::from("/bundle/root"),
        args: vec!["/init".into(), "two words".into()],
        mounts: vec![
            MountEdit::Add(bind("/usr")),
            MountEdit::Keep(0),
            MountEdit::Move { index: 2, destination: "/m/0".into(), options: vec!["nodev".into(), "noexec".into()] },
            MountEdit::Move { index: 1, destination: "/m/1".into(), options: vec!["ro".into()] },
        ],
        devices: vec![
            DeviceRule { is_block: false, major: 10, minor: 232, access: "rw" },
            DeviceRule { is_block: true, major: 7, minor: 3, access: "r" },
        ],
        device_paths: vec![(0, "/dev/crun-qemu/0".into())],
        memory: 1000,
    }
}

/// `podman()` after `edits()`.
fn edited() -> Value {
    let mut want = podman();
    want["root"] = json!({"path": "/bundle/root", "readonly": true});
    want["process"]["args"] = json!(["/init", "two words"]);
    want["process"]["cwd"] = json!("/");
    want["mounts"] = json!([
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec"]},
        {"destination": "/m/0", "type": "bind", "source": "/srv", "options": ["rbind", "nodev", "noexec"]},
        {"destination": "/m/1", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}
    ]);
    let rules = want["linux"]["resources"]["devices"].as_array_mut().unwrap();
    rules.push(json!({"allow": true, "type": "c", "major": 10, "minor": 232, "access": "rw"}));
    rules.push(json!({"allow": true, "type": "b", "major": 7, "minor": 3, "access": "r"}));
    want["linux"]["devices"][0]["path"] = json!("/dev/crun-qemu/0");
    want["linux"]["resources"]["memory"]["limit"] = json!(6000);
    want["linux"]["resources"]["memory"]["swap"] = json!(10000);
    want["linux"]["resources"]["unified"]["memory.high"] = json!("5000");
    want["linux"]["resources"]["unified"]["memory.max"] = json!("6000");
    want
}

fn bundle(v: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), v.to_string()).unwrap();
    dir
}

fn config(v: &Value) -> Config {
    serde_json::from_value(v.clone()).unwrap()
}

/// Calls `modify` with `def` and a bundle of `v`. Returns its result, and whether it called `prepare`.
fn run(def: *mut crun_config, v: &Value, edits: Edits) -> (std::result::Result<(), String>, bool) {
    let (dir, called) = (bundle(v), Cell::new(false));
    let prepare = |bundle: &Bundle, id: &str| {
        assert_eq!((&*bundle.path, id), (dir.path(), "abc"));
        called.set(true);
        Ok(edits)
    };
    // SAFETY: a wrong `def` is read through the kernel only.
    let result = unsafe { modify(def, dir.path(), "abc", prepare) };
    (result.map_err(|e| e.to_string()), called.get())
}

fn newest() -> &'static Layout {
    LAYOUTS.last().unwrap()
}

#[test]
fn edits_are_written_in_every_layout() {
    for layout in &LAYOUTS {
        let def = build(layout, &podman());
        assert_eq!(run(def, &podman(), edits()), (Ok(()), true), "{layout:?}");
        // The verification compares every member, and finds the layout of the rules.
        let proven = verify::prove(def, &config(&edited())).unwrap();
        let devices = proven.devices.unwrap();
        assert_eq!((devices.resources, devices.layout), (resources(layout, def), layout));
        // SAFETY: the pointers are verified.
        let (args, mount) = unsafe { ((*(*def).process).args, *(*def).mounts) };
        // SAFETY: arrays end with NULL, for execve.
        assert!(unsafe { *args.add(2) }.is_null());
        // SAFETY: the block is larger than the struct: crun's own may be.
        assert!(unsafe { libc::malloc_usable_size(mount.cast()) } >= 256);
    }
}

#[test]
fn a_difference_is_reported_before_prepare_is_called() {
    let cases: Vec<(&str, &str, Value)> = vec![
        ("ociVersion", "/ociVersion", json!("1.0.2")),
        ("root.path", "/root/path", json!("/storage/merge")),
        ("root.readonly", "/root/readonly", json!(true)),
        ("process.args", "/process/args/0", json!("x")),
        ("process.args", "/process/args", json!([])),
        ("process.cwd", "/process/cwd", json!("/nowhere/")),
        ("process.env", "/process/env/1", json!("LD_PRELOAD=/y")),
        ("mounts", "/mounts/0", Value::Null),
        ("mounts[2].source", "/mounts/2/source", json!("/srv2")),
        ("mounts[1].destination", "/mounts/1/destination", json!("/dev2")),
        ("mounts[1].type", "/mounts/1/type", json!("bind")),
        ("mounts[1].options", "/mounts/1/options", json!(["ro"])),
        ("mounts[0].options", "/mounts/0/options/1", json!("exec")),
        ("linux.devices[0].path", "/linux/devices/0/path", json!("/in/gues")),
        ("linux.devices[1].type", "/linux/devices/1/type", json!("b")),
        ("linux.devices", "/linux/devices/1", Value::Null),
        ("linux.resources.devices", "/linux/resources/devices/0/access", json!("rw")),
        ("linux.resources.devices", "/linux/resources/devices/1/major", json!(6)),
        ("linux.resources.devices", "/linux/resources/devices/2/minor", json!(0)),
        ("linux.resources.devices", "/linux/resources/devices/2/allow", Value::Null),
        ("linux.resources.devices", "/linux/resources/devices", json!([])),
        ("linux.resources.memory", "/linux/resources/memory/limit", json!(5001)),
        ("linux.resources.memory", "/linux/resources/memory/swap", Value::Null),
        ("linux.resources.memory", "/linux/resources/memory/kernel", json!(0)),
        ("linux.resources.memory", "/linux/resources/memory/swappiness", Value::Null),
        ("linux.resources.memory", "/linux/resources/memory/disableOOMKiller", json!(true)),
        ("linux.resources.unified", "/linux/resources/unified/memory.max", json!("500")),
        ("linux.resources.unified", "/linux/resources/unified/memory.other", json!("1")),
        ("linux.resources", "/linux/resources", Value::Null),
        ("linux", "/linux", Value::Null),
    ];
    for layout in &LAYOUTS {
        for (name, pointer, value) in &cases {
            let mut file = podman();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match (file.pointer_mut(parent).unwrap(), value) {
                (Value::Object(map), value) => _ = map.insert(key.into(), value.clone()),
                (Value::Array(items), Value::Null) => _ = items.remove(key.parse().unwrap()),
                (Value::Array(items), value) => items[key.parse::<usize>().unwrap()] = value.clone(),
                _ => panic!("{pointer}"),
            }
            let def = build(layout, &podman());
            let (result, called) = run(def, &file, edits());
            assert_eq!(result, Err(unknown_layout(name).to_string()), "{layout:?} {pointer}");
            assert!(!called, "{pointer}");
            assert!(verify::prove(def, &config(&podman())).is_ok(), "{pointer}: changed");
        }
    }
}

#[test]
fn one_more_member_is_an_unknown_layout() {
    for known in &LAYOUTS {
        for resources in [56, 80, 88] {
            let layout = Layout { resources, ..*known };
            let (result, called) = run(build(&layout, &podman()), &podman(), edits());
            let line = result.unwrap_err();
            assert!(
                line.contains("unknown layout of its structures: linux.resources") && !called,
                "{layout:?}: {line}"
            );
        }
    }
}

#[test]
fn wild_pointers_are_errors() {
    // Each word of each struct in turn becomes a pointer to nothing, or to too little.
    let words = |size: usize| size / size_of::<usize>();
    type Pick = fn(*mut crun_config) -> *mut usize;
    let pick: [(Pick, usize); 10] = [
        (|def| def.cast(), words(size_of::<crun_config>())),
        // SAFETY: built by the test.
        (|def| unsafe { (*def).process.cast() }, words(size_of::<crun_process>())),
        // SAFETY: as above.
        (|def| unsafe { (*(*def).mounts).cast() }, 5),
        // SAFETY: as above.
        (|def| resources(newest(), def).cast(), words(size_of::<crun_resources>())),
        // SAFETY: as above.
        (|def| unsafe { (*resources(newest(), def)).devices.cast() }, 1),
        // SAFETY: as above.
        (|def| unsafe { (*resources(newest(), def)).memory.cast() }, 6),
        // SAFETY: as above.
        (|def| unsafe { (*resources(newest(), def)).unified.cast() }, 3),
        // SAFETY: as above.
        (|def| unsafe { (*def).linux_.cast() }, 2),
        // SAFETY: as above.
        (|def| unsafe { (*(*(*def).linux_).devices).cast() }, 2),
        // SAFETY: as above.
        (|def| unsafe { (*def).linux_.wrapping_byte_add(newest().resources).cast() }, 1),
    ];
    // Members that are not read may have any value.
    let unread = [&[1, 2, 3, 4][..], &[2, 3], &[], &[3, 4, 5, 6, 7, 9, 10, 11], &[], &[], &[], &[], &[], &[]];
    for (n, (struct_of, words)) in pick.into_iter().enumerate() {
        for word in (0..words).filter(|word| !unread[n].contains(word)) {
            for wild in [0, 1, usize::MAX, 1 << 63, 1 << 40] {
                let def = build(newest(), &podman());
                // SAFETY: a word of a struct that the test has built.
                let old = unsafe { struct_of(def).add(word).replace(wild) };
                if old == wild {
                    continue;
                }
                let (result, called) = run(def, &podman(), edits());
                assert!(result.is_err() && !called, "struct {n}, word {word}, {wild:#x}");
            }
        }
    }
    for wild in [1, 4096, usize::MAX] {
        assert!(is_update(wild as *const crun_config).is_err());
    }
}

#[test]
fn no_rule_is_added_where_there_is_none() {
    for resources in [Value::Null, json!({}), json!({"devices": []})] {
        let (mut old, mut want) = (podman(), edited());
        old["linux"]["resources"] = resources.clone();
        want["linux"]["resources"] = resources;
        let def = build(newest(), &old);
        assert_eq!(run(def, &old, edits()), (Ok(()), true));
        assert!(verify::prove(def, &config(&want)).unwrap().devices.is_none());
    }
}

#[test]
fn impossible_edits_change_nothing() {
    let with = |change: fn(&mut Edits)| {
        let mut edits = edits();
        change(&mut edits);
        edits
    };
    let cases = [
        (with(|e| e.mounts.push(MountEdit::Keep(3))), "edits: mount 3 of 3 does not exist or is used twice"),
        (with(|e| e.mounts.push(MountEdit::Keep(2))), "edits: mount 2 of 3 does not exist or is used twice"),
        (with(|e| e.args.push("a\0".into())), "edits: nul byte found in provided data at position: 1"),
        (with(|e| e.device_paths.push((2, "/x".into()))), "edits: there is no device 2"),
    ];
    for (edits, want) in cases {
        let def = build(&LAYOUTS[0], &podman());
        assert_eq!(run(def, &podman(), edits), (Err(want.into()), true));
        assert!(verify::prove(def, &config(&podman())).is_ok(), "{want}");
    }
}

#[test]
fn a_configuration_without_a_container_is_an_update() {
    let linux_ = linux(newest(), ptr::null_mut(), None);
    assert!(is_update(leak(crun_config { linux_, ..Default::default() })).unwrap());
    assert!(!is_update(build(newest(), &podman())).unwrap());
}

#[test]
fn an_unreadable_config_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    // SAFETY: `def` is not reached.
    let run = || unsafe { modify(ptr::null_mut(), dir.path(), "abc", |_, _| panic!("prepared")) };
    let path = dir.path().join("config.json");
    let line = run().unwrap_err().to_string();
    assert_eq!(line, format!("{}: No such file or directory", path.display()));
    fs::write(&path, "{").unwrap();
    assert!(run().unwrap_err().to_string().contains("EOF while parsing"));
}
