//! `podman update` of a running VM, in crun's process or the runtime executable. Limits of CPUs, I/O and processes
//! apply to the cgroup as usual. A memory limit is a request to the guest, which returns memory through its balloon and
//! never has more than QEMU was started with. The memory limits of the cgroup stay as they were at start, because a
//! guest may ignore the request.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::crun::state;
use crate::edits::json;
use crate::edits::memory_limits::{self, Change, Memory, RequestedLimits};
use crate::error::{Context, Error, Result};
use crate::plan::LEAST_MEMORY;
use crate::prepare::{self, MemoryRecord};

/// A running VM and the memory limits at its start.
pub(crate) struct Started {
    bundle: PathBuf,
    memory: MemoryRecord,
}

/// Passes the memory limit of an update to the guest, and restores the limits in `resources` to those at start.
///
/// # Errors
/// A running VM cannot be changed in this way.
pub fn in_json(states: Option<&Path>, id: &str, resources: &mut Value) -> Result<()> {
    let Some(started) = Started::read(states, id)? else { return Ok(()) };
    let given: RequestedLimits = serde_json::from_value(resources.clone()).context("update")?;
    started.tell(started.guest_memory(given)?)?;
    if let Some(resources) = resources.as_object_mut() {
        json::change_limits(resources, &started.keep());
    }
    Ok(())
}

/// Refuses an update by crun's memory options.
///
/// # Errors
/// The container is a VM.
pub fn by_options(states: Option<&Path>, id: &str) -> Result<()> {
    match Started::read(states, id)? {
        None => Ok(()),
        Some(_) => Err(Error::new("update", "a VM's memory cannot be limited by options")
            .hint("--resources FILE, or podman update")),
    }
}

impl Started {
    /// `None`: the container is not a VM.
    fn read(states: Option<&Path>, id: &str) -> Result<Option<Self>> {
        bundle(states, id)?.map_or(Ok(None), Self::of)
    }

    pub(crate) fn of(bundle: PathBuf) -> Result<Option<Self>> {
        Ok(prepare::memory(&bundle)?.map(|memory| Self { bundle, memory }))
    }

    /// The guest memory that `given` asks for, bytes; `None`: unchanged.
    pub(crate) fn guest_memory(&self, given: RequestedLimits) -> Result<Option<u64>> {
        let (given, started) = (given.without_zeros(), &self.memory.named);
        let (asked, memory) = (given.limit(), given.memory.clone().unwrap_or_default());
        // Engines send the limit of memory and swap with each memory limit.
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

    /// How the limits in an update change.
    pub(crate) fn keep(&self) -> Change {
        let MemoryRecord { raised, named, .. } = &self.memory;
        let number = |limit: Option<i64>| memory_limits::raised(limit.unwrap_or(-1), *raised);
        let memory = named.memory.clone().unwrap_or_default();
        let text = |name: &&str| {
            let text = named.file(name).unwrap_or("max");
            memory_limits::raised_text(text, *raised).unwrap_or_else(|| text.to_owned())
        };
        let files = memory_limits::UNIFIED.iter().map(text).collect();
        Change::Restore(memory_limits::InitialLimits { limit: number(memory.limit), swap: number(memory.swap), files })
    }

    pub(crate) fn tell(&self, guest: Option<u64>) -> Result<()> {
        guest.map_or(Ok(()), |bytes| prepare::ask_of_guest(&self.bundle, bytes))
    }
}

/// The bundle of the container `id`. `None`: the container does not exist, which crun reports itself.
pub(crate) fn bundle(states: Option<&Path>, id: &str) -> Result<Option<PathBuf>> {
    let Some(status) = state::read(&state::dir(states, id))? else { return Ok(None) };
    let bundle =
        status["bundle"].as_str().ok_or_else(|| Error::new(format!("container {id}"), "its state names no bundle"))?;
    Ok(Some(bundle.into()))
}
