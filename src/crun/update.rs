//! `update` of a running VM. What concerns CPUs, I/O and processes is the cgroup's affair alone. Memory is the guest's: it
//! gives back what it is to do without, by its balloon, and never has more than QEMU was started with. The cgroup's limits
//! stay those of the start, since a guest need not obey.

#[cfg(test)]
mod tests;

use std::mem::offset_of;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layout::{LAYOUTS, Present};
use super::memory;
use super::peek::{peek, peek_array};
use super::state;
use super::sys::{crun_config, crun_linux, crun_linux_with_net_devices, crun_resources};
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
    // crun has read the state itself by now: where there is none, the context is not what it is taken for.
    let bundle = bundle(states, id)?.ok_or_else(|| unknown("the container's state"))?;
    let Some(started) = Started::of(bundle)? else { return Ok(()) };
    let linux = peek(def).ok_or_else(|| unknown_layout("the configuration"))?.linux_;
    let (resources, known) = resources(linux).ok_or_else(|| unknown("linux.resources"))?;
    let limits = memory::find(&resources, &known).ok_or_else(|| unknown("linux.resources.memory"))?;
    let guest = started.guest_memory(limits.named())?;
    let changed = limits.changed(&started.keep())?;
    started.tell(guest)?;
    // SAFETY: found in structs that are crun's, by a layout that makes sense of them in one way only.
    unsafe { changed.commit() };
    Ok(())
}

/// The resources of an update and the layouts they may have. Crun zeroes all of `linux` but the pointer to them, so that
/// where that is tells the layout. `None`: it is where no layout known has it, or something else is there.
fn resources(linux: *const crun_linux) -> Option<(crun_resources, Vec<Present>)> {
    let words = peek_array(linux.cast::<usize>(), WORDS)?;
    let mut set = words.iter().enumerate().filter(|(_, word)| **word != 0);
    let ((at, pointer), None) = (set.next()?, set.next()) else { return None };
    let known = LAYOUTS.iter().filter(|layout| layout.resources == at * size_of::<usize>());
    let known: Vec<_> = known.map(|layout| layout.present).collect();
    let resources = peek(*pointer as *const crun_resources)?;
    // No engine updates these, so that what is there is something else that has moved: the limits of memory, perhaps.
    (!known.is_empty() && resources.network.is_null()).then_some((resources, known))
}

/// What every layout of `linux` has at least, up to the farthest place known.
const WORDS: usize = offset_of!(crun_linux_with_net_devices, resources) / size_of::<usize>() + 1;

fn unknown(what: &str) -> Error {
    Error::new("update", format!("unknown layout of crun's structures: {what} cannot be told"))
        .hint("make a new container")
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
        bundle(states, id)?.map_or(Ok(None), Self::of)
    }

    fn of(bundle: PathBuf) -> Result<Option<Self>> {
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
