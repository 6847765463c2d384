//! `update` of a running VM. What concerns CPUs, I/O and processes is the cgroup's affair alone. The memory is the
//! guest's, made when QEMU started: it stays. Engines repeat all limits when only one changes, and memory's are not then
//! to fall to what the user named, without QEMU's own need.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::{Config, Resources};
use super::peek::peek;
use super::sys::crun_config;
use super::{memory, unknown_layout};
use crate::config_json;
use crate::error::{Context, Error, Result};
use crate::limits;
use crate::prepare;

/// What the VM was started with.
struct Started {
    resources: Resources,
    /// By how much its limits of memory were raised then.
    raised: u64,
}

/// Looks into crun's `update` in its structs.
///
/// # Errors
/// It would change the VM's memory; nothing has been written then.
///
/// # Safety
/// `def` has passed for that of an update, and crun waits for this call to return.
pub unsafe fn in_structs(states: Option<&Path>, id: &str, def: *const crun_config) -> Result<()> {
    let linux = peek(def).ok_or_else(|| unknown_layout("the configuration"))?.linux_;
    let Some(resources) = peek(linux).and_then(|linux| peek(linux.resources)) else { return Ok(()) };
    if resources.memory.is_null() && resources.unified.is_null() {
        return Ok(());
    }
    let Some(started) = Started::read(states, id)? else { return Ok(()) };
    let limits = memory::prove_update(&resources, &started.resources).ok_or_else(refused)?;
    let raised = limits.raised(started.raised)?;
    // SAFETY: proven by the values, of which the layout follows.
    unsafe { raised.commit() };
    Ok(())
}

/// Edits the resources of an `update` as the engine wrote them.
///
/// # Errors
/// As [`in_structs`].
pub fn in_json(states: Option<&Path>, id: &str, resources: &mut Value) -> Result<()> {
    let Some(started) = Started::read(states, id)? else { return Ok(()) };
    let given: Resources = serde_json::from_value(resources.clone()).context("update")?;
    if !started.has(&given) {
        return Err(refused());
    }
    if let Some(resources) = resources.as_object_mut() {
        config_json::raise(resources, started.raised);
    }
    Ok(())
}

/// The answer to a change of memory.
pub fn refused() -> Error {
    Error::new(
        "update",
        "a running VM keeps its memory: --memory, --memory-swap and --memory-reservation do not change",
    )
    .hint("make a new container with others")
}

impl Started {
    /// `None`: the container is no VM.
    fn read(states: Option<&Path>, id: &str) -> Result<Option<Self>> {
        let Some(bundle) = bundle(states, id)? else { return Ok(None) };
        let Some(raised) = prepare::raised_memory(&bundle)? else { return Ok(None) };
        let resources = Config::read(&bundle)?.linux.and_then(|linux| linux.resources);
        let resources = resources.unwrap_or(Resources { devices: None, memory: None, unified: None });
        Ok(Some(Self { resources, raised }))
    }

    /// Whether what `given` says of memory is so already.
    fn has(&self, given: &Resources) -> bool {
        let file = |resources: &Resources, name: &str| resources.unified.as_ref()?.get(name).cloned();
        let memory = self.resources.memory.clone().unwrap_or_default();
        given.memory.as_ref().is_none_or(|given| given.is_part_of(&memory))
            && limits::UNIFIED
                .iter()
                .all(|name| file(given, name).is_none_or(|v| Some(v) == file(&self.resources, name)))
    }
}

/// The bundle of the container `id`, from what crun keeps of its containers below `states` (by default its own place).
/// `None`: there is no such container, which crun says best itself.
fn bundle(states: Option<&Path>, id: &str) -> Result<Option<PathBuf>> {
    let states = states.map(Path::to_owned).unwrap_or_else(|| {
        let user = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        user.map_or_else(|| "/run/crun".into(), |dir| Path::new(&dir).join("crun"))
    });
    let path = states.join(id).join("status");
    let text = match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.context(path.display())?,
    };
    let status: Value = serde_json::from_slice(&text).context(path.display())?;
    let bundle =
        status["bundle"].as_str().ok_or_else(|| Error::new(path.display().to_string(), "it names no bundle"))?;
    Ok(Some(bundle.into()))
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use serde_json::json;
    use tempfile::TempDir;

    use super::super::fixture::{build, leak};
    use super::super::proof::DeviceLayout::{Interleaved, Trailing};
    use super::super::sys::crun_linux;
    use super::*;

    /// A running VM of id `vm`, started with these resources, and what crun knows of it.
    fn running(resources: &Value) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, state) = (dir.path().join("bundle"), dir.path().join("vm"));
        fs::create_dir_all(bundle.join("crun-qemu")).unwrap();
        fs::create_dir(&state).unwrap();
        fs::write(state.join("status"), json!({"bundle": bundle}).to_string()).unwrap();
        fs::write(bundle.join("config.json"), json!({"linux": {"resources": resources}}).to_string()).unwrap();
        fs::write(bundle.join("crun-qemu/memory.json"), "1000").unwrap();
        dir
    }

    #[test]
    fn memory_stays_and_the_rest_changes() {
        let memory = json!({"limit": 5000, "swap": 9000});
        let unified = json!({"memory.max": "5000", "io.weight": "3"});
        let raised = json!({"memory": {"limit": 6000, "swap": 10000}, "unified": {"memory.max": "6000"}});
        let line = refused().to_string();
        for (given, want) in [
            (json!({"cpu": {"shares": 5}}), Some(json!({"cpu": {"shares": 5}}))),
            (
                json!({"memory": {}, "unified": {"io.weight": "9"}}),
                Some(json!({"memory": {}, "unified": {"io.weight": "9"}})),
            ),
            (json!({"memory": memory, "unified": {"memory.max": "5000"}}), Some(raised)),
            (json!({"memory": {"limit": 5001, "swap": 9000}}), None),
            (json!({"memory": {"limit": 5000}}), Some(json!({"memory": {"limit": 6000}}))),
            (json!({"memory": {"reservation": 1}}), None),
            (json!({"unified": {"memory.max": "5001"}}), None),
            (json!({"unified": {"memory.high": "5000"}}), None),
        ] {
            let dir = running(&json!({"memory": memory, "unified": unified}));
            let mut edited = given.clone();
            let result = in_json(Some(dir.path()), "vm", &mut edited);
            assert_eq!(result.map(|()| edited).map_err(|e| e.to_string()), want.ok_or(line.clone()), "{given}");
        }
    }

    #[test]
    fn crun_is_told_the_same() {
        let start = json!({"memory": {"limit": 5000, "swap": 9000}, "unified": {"memory.max": "5000"}});
        let other = |pointer: &str, value: Value| {
            let mut changed = start.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        for layout in [Interleaved, Trailing] {
            for (given, ok) in [
                (json!({}), true),
                (start.clone(), true),
                (json!({"memory": start["memory"]}), true),
                (json!({"unified": {"io.weight": "3"}}), true),
                (other("/memory/limit", json!(5001)), false),
                (json!({"memory": {"limit": 5000}}), true),
                (json!({"memory": {"swap": 9000}}), true),
                (json!({"memory": {}}), true),
                (json!({"memory": {"limit": 9000}}), false),
                (other("/unified/memory.max", json!("1")), false),
                (json!({"memory": {"reservation": 1}}), false),
            ] {
                let dir = running(&start);
                let config = |resources: &Value| json!({"mounts": [], "linux": {"resources": resources}});
                // SAFETY: built by the test.
                let linux_ = unsafe { (*build(layout, &config(&given))).linux_ };
                let def = leak(crun_config { linux_, ..Default::default() });
                // SAFETY: as above.
                let result = unsafe { in_structs(Some(dir.path()), "vm", def) };
                assert_eq!(result.is_ok(), ok, "{layout:?} {given}");
                // SAFETY: as above.
                let got = peek(unsafe { (*linux_).resources }).unwrap();
                let mut want = given.clone();
                if ok {
                    config_json::raise(want.as_object_mut().unwrap(), 1000);
                }
                let want: Resources = serde_json::from_value(want).unwrap();
                assert!(memory::prove(&got, &want).is_ok(), "{layout:?} {given}");
            }
        }
    }

    #[test]
    fn without_memory_or_a_vm_nothing_is_looked_at() {
        for linux_ in [ptr::null_mut(), leak(crun_linux::default())] {
            let def = leak(crun_config { linux_, ..Default::default() });
            // SAFETY: built by the test.
            assert!(unsafe { in_structs(Some(Path::new("/nowhere")), "vm", def) }.is_ok());
        }
        let dir = running(&json!({}));
        fs::remove_file(dir.path().join("bundle/crun-qemu/memory.json")).unwrap();
        let mut given = json!({"memory": {"limit": 1}});
        assert!(in_json(Some(dir.path()), "vm", &mut given).is_ok());
        assert_eq!(given, json!({"memory": {"limit": 1}}));
        assert!(in_json(Some(dir.path()), "other", &mut given).is_ok());
    }
}
