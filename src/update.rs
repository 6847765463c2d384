//! `update` of a running VM. What concerns CPUs, I/O and processes is the cgroup's affair alone. Memory is the guest's: it
//! gives back what it is to do without, by its balloon, and never has more than QEMU was started with. The cgroup's limits
//! stay those of the start, since a guest need not obey.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::crun::state;
use crate::edits::json;
use crate::edits::memory_limits::{self, Change, Memory, RequestedLimits};
use crate::error::{Context, Error, Result};
use crate::plan::LEAST_MEMORY;
use crate::prepare::{self, MemoryRecord};

/// A running VM and what it was started with.
pub(crate) struct Started {
    bundle: PathBuf,
    memory: MemoryRecord,
}

/// Edits the resources of an `update` as the engine wrote them.
///
/// # Errors
/// It would change the VM's memory in a way that cannot be.
pub fn in_json(states: Option<&Path>, id: &str, resources: &mut Value) -> Result<()> {
    let Some(started) = Started::read(states, id)? else { return Ok(()) };
    let given: RequestedLimits = serde_json::from_value(resources.clone()).context("update")?;
    started.tell(started.guest_memory(given)?)?;
    if let Some(resources) = resources.as_object_mut() {
        json::change_limits(resources, &started.keep());
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
        status["bundle"].as_str().ok_or_else(|| Error::new(format!("container {id}"), "it names no bundle"))?;
    Ok(Some(bundle.into()))
}
