//! `update` of a running VM. What concerns CPUs, I/O and processes is the cgroup's affair alone. Memory is the guest's: it
//! gives back what it is to do without, by its balloon, and never has more than QEMU was started with. The cgroup's limits
//! stay those of the start, since a guest need not obey.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::memory;
use super::peek::peek;
use super::state;
use super::sys::crun_config;
use super::unknown_layout;
use crate::config_json;
use crate::error::{Context, Error, Result};
use crate::limits::{self, Change, Memory, Named};
use crate::plan::LEAST_MEMORY;
use crate::prepare::{self, MemoryRecord};

/// A running VM and what it was started with.
struct Started {
    bundle: PathBuf,
    memory: MemoryRecord,
}

/// Looks into crun's `update` in its structs.
///
/// # Errors
/// It would change the VM's memory in a way that cannot be; nothing has been written then.
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
    let limits = memory::find(&resources).ok_or_else(|| unknown_layout("linux.resources.memory"))?;
    let guest = started.guest_memory(limits.named())?;
    let changed = limits.changed(&started.keep())?;
    started.tell(guest)?;
    // SAFETY: found in structs that are crun's, by a layout that makes sense of them in one way only.
    unsafe { changed.commit() };
    Ok(())
}

/// Edits the resources of an `update` as the engine wrote them.
///
/// # Errors
/// As [`in_structs`].
pub fn in_json(states: Option<&Path>, id: &str, resources: &mut Value) -> Result<()> {
    let Some(started) = Started::read(states, id)? else { return Ok(()) };
    let given: Named = serde_json::from_value(resources.clone()).context("update")?;
    started.tell(started.guest_memory(given)?)?;
    if let Some(resources) = resources.as_object_mut() {
        config_json::change_limits(resources, &started.keep());
    }
    Ok(())
}

/// Refuses limits of memory that are options of crun's own.
///
/// # Errors
/// The container is a VM.
pub fn by_options(states: Option<&Path>, id: &str) -> Result<()> {
    match Started::read(states, id)? {
        None => Ok(()),
        Some(_) => Err(Error::new("update", "limits of memory by options").hint("--resources FILE, or podman update")),
    }
}

impl Started {
    /// `None`: the container is no VM.
    fn read(states: Option<&Path>, id: &str) -> Result<Option<Self>> {
        let Some(bundle) = bundle(states, id)? else { return Ok(None) };
        Ok(prepare::memory(&bundle)?.map(|memory| Self { bundle, memory }))
    }

    /// What `given` means for the guest's memory, bytes; `None`: nothing.
    fn guest_memory(&self, given: Named) -> Result<Option<u64>> {
        let (given, started) = (given.without_zeros(), &self.memory.named);
        let (asked, memory) = (given.limit(), given.memory.clone().unwrap_or_default());
        // Engines send the one of memory with swap along.
        let swap = if asked.is_some() { None } else { memory.swap };
        let rest = Memory { limit: None, swap, ..memory };
        let same = |name: &str| given.file(name).is_none_or(|v| Some(v) == started.file(name));
        if !rest.is_part_of(&started.memory.clone().unwrap_or_default()) || !same("memory.high") {
            let why = "a running VM keeps its --memory-swap, --memory-reservation and the like";
            return Err(Error::new("update", why).hint("make a new container with others"));
        }
        let Some(asked) = asked else { return Ok(None) };
        let (least, most) = (LEAST_MEMORY, self.memory.guest);
        if asked == started.limit().unwrap_or(-1) {
            return Ok(Some(most));
        }
        let possible = u64::try_from(asked).ok().filter(|asked| (least..=most).contains(asked));
        let refused = || {
            let why = format!("{asked} bytes: this VM can have {least} to {most}, as it was started with that");
            Error::new("update: --memory", why).hint("make a new container for more")
        };
        possible.map(Some).ok_or_else(refused)
    }

    /// What becomes of the limits that an update names.
    fn keep(&self) -> Change {
        let MemoryRecord { raised, named, .. } = &self.memory;
        let number = |limit: Option<i64>| limits::raised(limit.unwrap_or(-1), *raised);
        let memory = named.memory.clone().unwrap_or_default();
        let text = |name: &&str| {
            let text = named.file(name).unwrap_or("max");
            limits::raised_text(text, *raised).unwrap_or_else(|| text.to_owned())
        };
        let files = limits::UNIFIED.iter().map(text).collect();
        Change::Keep(limits::Started { limit: number(memory.limit), swap: number(memory.swap), files })
    }

    fn tell(&self, guest: Option<u64>) -> Result<()> {
        guest.map_or(Ok(()), |bytes| prepare::ask_of_guest(&self.bundle, bytes))
    }
}

/// The bundle of the container `id`. `None`: there is no such container, which crun says best itself.
fn bundle(states: Option<&Path>, id: &str) -> Result<Option<PathBuf>> {
    let Some(status) = state::read(&state::dir(states, id))? else { return Ok(None) };
    let bundle =
        status["bundle"].as_str().ok_or_else(|| Error::new(format!("container {id}"), "it names no bundle"))?;
    Ok(Some(bundle.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        fs::create_dir_all(bundle.join("crun-qemu/root/crun-qemu")).unwrap();
        fs::create_dir(&state).unwrap();
        fs::write(state.join("status"), json!({"bundle": bundle}).to_string()).unwrap();
        // podman 5.1 and newer write what an update shall change here before.
        fs::write(bundle.join("config.json"), json!({"linux": {"resources": {"memory": {"limit": 7}}}}).to_string())
            .unwrap();
        let memory = json!({"guest": 512 << 20, "raised": 1000, "named": resources});
        fs::write(bundle.join("crun-qemu/memory.json"), memory.to_string()).unwrap();
        dir
    }

    /// Limits of memory, in MiB, as an engine writes them.
    fn memory(limits: &[(&str, u64)]) -> Value {
        let members = limits.iter().map(|(name, mib)| (name.to_string(), json!(mib << 20)));
        json!({"memory": Value::Object(members.collect())})
    }

    /// Updates of a VM that was started with 512 MiB, and 1024 with swap: what crun gets to see of the update, and the
    /// guest of its memory, in MiB.
    fn updates() -> Vec<(Value, Result<Value>, Option<u64>)> {
        let kept = "qemu: update: a running VM keeps its --memory-swap, --memory-reservation and the like \
                    (make a new container with others)";
        let range = |mib: u64| {
            let bytes = (mib << 20) as i64;
            format!(
                "qemu: update: --memory: {bytes} bytes: this VM can have 33554432 to 536870912, as it was started with \
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
            // Zeros mean nothing.
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

    /// What the guest is asked for, in MiB.
    fn asked(dir: &TempDir) -> Option<u64> {
        let file = dir.path().join("bundle/crun-qemu/root").join(&crate::paths::MEMORY[1..]);
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
    fn crun_is_told_the_same() {
        let cases = updates().into_iter().flat_map(|case| [(Interleaved, case.clone()), (Trailing, case)]);
        for (layout, (given, want, guest)) in cases {
            let dir = vm();
            let config = json!({"mounts": [], "linux": {"resources": given}});
            // SAFETY: built by the test.
            let linux_ = unsafe { (*build(layout, &config)).linux_ };
            let def = leak(crun_config { linux_, ..Default::default() });
            // SAFETY: as above.
            let result = unsafe { in_structs(Some(dir.path()), "vm", def) };
            assert_eq!(result.map_err(|e| e.to_string()).err(), want.as_ref().err().map(|e| e.why().into()), "{given}");
            assert_eq!(asked(&dir), guest, "{layout:?} {given}");
            // SAFETY: as above.
            let got = peek(unsafe { (*linux_).resources }).unwrap();
            let want: Named = serde_json::from_value(want.unwrap_or(given.clone())).unwrap();
            assert!(memory::prove(&got, &want).is_ok(), "{layout:?} {given}");
        }
    }

    #[test]
    fn where_there_was_no_limit_there_is_none() {
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
