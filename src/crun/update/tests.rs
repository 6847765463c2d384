//! Updates as engines write them, and as crun passes them.

use std::fs;
use std::ptr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::fixture::{build, leak, linux, resources};
use super::*;
use crate::edits::memory_limits::RequestedLimits;
use crate::update::in_json;

/// A running VM with the id `vm`, started with these resources, and crun's state of it.
fn running(resources: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (bundle, state) = (dir.path().join("bundle"), dir.path().join("vm"));
    fs::create_dir_all(bundle.join("crun-qemu/root/crun-qemu")).unwrap();
    fs::create_dir(&state).unwrap();
    fs::write(state.join("status"), json!({"bundle": bundle}).to_string()).unwrap();
    // podman 5.1 and newer write an update's limits here before they call crun.
    fs::write(bundle.join("config.json"), json!({"linux": {"resources": {"memory": {"limit": 7}}}}).to_string())
        .unwrap();
    let memory = json!({"guest": 512 << 20, "raised": 1000, "named": resources});
    fs::write(bundle.join("crun-qemu/memory.json"), memory.to_string()).unwrap();
    dir
}

/// Memory limits in MiB, as an engine writes them.
fn memory(limits: &[(&str, u64)]) -> Value {
    let members = limits.iter().map(|(name, mib)| (name.to_string(), json!(mib << 20)));
    json!({"memory": Value::Object(members.collect())})
}

/// Updates of a VM that was started with 512 MiB, and 1024 with swap: the update, its result for crun, and the memory
/// that the guest is asked to use, in MiB.
fn updates() -> Vec<(Value, Result<Value>, Option<u64>)> {
    let kept = "update: a running VM keeps its --memory-swap, --memory-reservation and the like \
                (make a new container with others)";
    let range = |mib: u64| {
        let bytes = (mib << 20) as i64;
        format!(
            "update: --memory: {bytes} bytes: this VM can have 33554432 to 536870912, as it was started with \
             that (make a new container for more)"
        )
    };
    let raised = |limits: &[&str]| {
        let of = |name| if name == "limit" { 512 } else { 1024 };
        let limits = limits.iter().map(|name| (name.to_string(), json!((of(*name) << 20) + 1000)));
        Ok(json!({"memory": Value::Object(limits.collect())}))
    };
    let refused = |why: &str| Err(Error::new("", why));
    let cpu = json!({"cpu": {"shares": 5}, "memory": {}, "unified": {"io.weight": "9"}});
    vec![
        (cpu.clone(), Ok(cpu), None),
        (memory(&[("limit", 512), ("swap", 1024)]), raised(&["limit", "swap"]), Some(512)),
        (memory(&[("limit", 512)]), raised(&["limit"]), Some(512)),
        (memory(&[("limit", 100), ("swap", 200)]), raised(&["limit", "swap"]), Some(100)),
        (memory(&[("limit", 32)]), raised(&["limit"]), Some(32)),
        (memory(&[("swap", 1024)]), raised(&["swap"]), None),
        // Zeros change nothing.
        (memory(&[("limit", 0), ("swap", 0)]), Ok(memory(&[("limit", 0), ("swap", 0)])), None),
        (memory(&[("limit", 31)]), refused(&range(31)), None),
        (memory(&[("limit", 513)]), refused(&range(513)), None),
        (memory(&[("swap", 1000)]), refused(kept), None),
        (memory(&[("reservation", 1)]), refused(kept), None),
        (memory(&[("reservation", 100)]), refused(kept), None),
        (memory(&[("reservation", 128)]), refused(kept), None),
        (memory(&[]), Ok(memory(&[])), None),
        (memory(&[("limit", 512), ("reservation", 1)]), refused(kept), None),
        (
            json!({"unified": {"memory.max": (64 << 20).to_string()}}),
            Ok(json!({"unified": {"memory.max": "536871912"}})),
            Some(64),
        ),
        (json!({"unified": {"memory.high": "5000"}}), refused(kept), None),
    ]
}

/// The VM of [`updates`].
fn vm() -> TempDir {
    let mut started = memory(&[("limit", 512), ("swap", 1024)]);
    started["unified"] = json!({"memory.max": (512 << 20).to_string(), "io.weight": "3"});
    running(&started)
}

/// The memory that the guest is asked to use, in MiB.
fn asked(dir: &TempDir) -> Option<u64> {
    let file = dir.path().join("bundle/crun-qemu/root").join(&crate::handoff::paths::MEMORY[1..]);
    Some(fs::read_to_string(file).ok()?.parse::<u64>().unwrap() >> 20)
}

#[test]
fn the_guest_is_asked_and_the_limits_stay() {
    for (given, want, guest) in updates() {
        let (dir, mut edited) = (vm(), given.clone());
        let result = in_json(Some(dir.path()), "vm", &mut edited).map(|()| edited);
        let want = want.map_err(|e| e.why().to_owned());
        assert_eq!(result.map_err(|e| e.to_string()), want, "{given}");
        assert_eq!(asked(&dir), guest, "{given}");
    }
}

#[test]
fn structs_are_edited_like_json() {
    for (layout, (given, want, guest)) in LAYOUTS.iter().flat_map(|l| updates().into_iter().map(move |u| (l, u))) {
        let dir = vm();
        let (def, named) = update(layout, &given);
        // SAFETY: built by the test.
        let result = unsafe { in_structs(Some(dir.path()), "vm", def) };
        assert_eq!(result.map_err(|e| e.to_string()).err(), want.as_ref().err().map(|e| e.why().into()), "{given}");
        assert_eq!(asked(&dir), guest, "{layout:?} {given}");
        let want: RequestedLimits = serde_json::from_value(want.unwrap_or(given.clone())).unwrap();
        assert!(memory::prove(&peek(named).unwrap(), &want, layout).is_ok(), "{layout:?} {given}");
    }
}

/// An update as crun of this layout passes it to handlers, and its resources.
fn update(layout: &Layout, given: &Value) -> (*mut crun_config, *mut crun_resources) {
    let parsed = build(layout, &json!({"mounts": [], "linux": {"resources": given}}));
    let resources = resources(layout, parsed);
    (leak(crun_config { linux_: linux(layout, resources, None), ..Default::default() }), resources)
}

#[test]
fn updates_of_an_unknown_layout_are_refused() {
    let (dir, given) = (vm(), memory(&[("limit", 256)]));
    let refused = |def: *const crun_config, what: &str| {
        // SAFETY: built by the test.
        let line = unsafe { in_structs(Some(dir.path()), "vm", def) }.unwrap_err().to_string();
        assert_eq!(line, unknown(what).to_string());
        assert_eq!(asked(&dir), None);
    };
    for known in &LAYOUTS {
        // Resources elsewhere, twice, nowhere, or no linux.
        for resources in [48, 56, 80, 88] {
            refused(update(&Layout { resources, ..*known }, &given).0, "linux.resources");
        }
        let (def, resources) = update(known, &given);
        // SAFETY: as above.
        let words = unsafe { (*def).linux_ }.cast::<usize>();
        for also in [0, 5] {
            // SAFETY: as above.
            let old = unsafe { words.add(also).replace(resources as usize) };
            refused(def, "linux.resources");
            // SAFETY: as above.
            unsafe { words.add(also).write(old) };
        }
        refused(
            leak(crun_config { linux_: linux(known, ptr::null_mut(), None), ..Default::default() }),
            "linux.resources",
        );
        refused(leak(crun_config::default()), "linux.resources");
        // The memory limits at another place of the resources: the member after them is NULL otherwise.
        // SAFETY: as above.
        unsafe { (*resources).network = std::mem::replace(&mut (*resources).memory, ptr::null_mut()) };
        refused(def, "linux.resources");
    }
}

#[test]
fn a_vm_started_without_limits_gets_none() {
    let dir = running(&json!({}));
    let mut given = memory(&[("limit", 100), ("swap", 200)]);
    given["unified"] = json!({"memory.max": (100 << 20).to_string()});
    in_json(Some(dir.path()), "vm", &mut given).unwrap();
    assert_eq!(given, json!({"memory": {"limit": -1, "swap": -1}, "unified": {"memory.max": "max"}}));
    assert_eq!(asked(&dir), Some(100));
    let mut given = json!({"memory": {"limit": -1}});
    in_json(Some(dir.path()), "vm", &mut given).unwrap();
    assert_eq!((given, asked(&dir)), (json!({"memory": {"limit": -1}}), Some(512)));
}

#[test]
fn updates_without_memory_or_without_a_vm_are_accepted() {
    let (vm, cpus) = (vm(), json!({"cpu": {"shares": 7}}));
    for layout in &LAYOUTS {
        // SAFETY: built by the test.
        assert!(unsafe { in_structs(Some(vm.path()), "vm", update(layout, &cpus).0) }.is_ok());
        // SAFETY: as above.
        let line = unsafe { in_structs(Some(Path::new("/nowhere")), "vm", update(layout, &cpus).0) }.unwrap_err();
        assert_eq!(line.to_string(), unknown("the container's state").to_string());
    }
    let dir = running(&json!({}));
    fs::remove_file(dir.path().join("bundle/crun-qemu/memory.json")).unwrap();
    let mut given = json!({"memory": {"limit": 1}});
    assert!(in_json(Some(dir.path()), "vm", &mut given).is_ok());
    assert_eq!(given, json!({"memory": {"limit": 1}}));
    assert!(in_json(Some(dir.path()), "other", &mut given).is_ok());
}
