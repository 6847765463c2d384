//! `crun update` of a running VM, in crun's structs.

#[cfg(test)]
mod tests;

use std::mem::offset_of;
use std::path::Path;

use super::compare::unknown_layout;
use super::layout::{LAYOUTS, Layout};
use super::memory;
use super::peek::{peek, peek_array};
use super::sys::{crun_config, crun_linux, crun_linux_with_net_devices, crun_resources};
use crate::error::{Error, Result};
use crate::update::{Started, bundle};

/// Passes the memory limit of an update to the guest, and restores the limits in `def` to those at start.
///
/// # Errors
/// A running VM cannot be changed in this way, or the layout is unknown. Nothing has been written then.
///
/// # Safety
/// [`super::is_update`] is true for `def`, and crun waits for this call to return.
pub unsafe fn in_structs(states: Option<&Path>, id: &str, def: *const crun_config) -> Result<()> {
    // crun has already read the state: without one, the context is not what it was taken for.
    let bundle = bundle(states, id)?.ok_or_else(|| unknown("the container's state"))?;
    let Some(started) = Started::of(bundle)? else { return Ok(()) };
    let linux = peek(def).ok_or_else(|| unknown_layout("the configuration"))?.linux_;
    let (resources, possible) = resources(linux).ok_or_else(|| unknown("linux.resources"))?;
    let limits = memory::find(&resources, &possible).ok_or_else(|| unknown("linux.resources.memory"))?;
    let guest = started.guest_memory(limits.named())?;
    let changed = limits.changed(&started.keep())?;
    started.tell(guest)?;
    // SAFETY: the limits were found in crun's structs, by the only layout that fits.
    unsafe { changed.commit() };
    Ok(())
}

/// The resources of an update and their possible layouts. crun zeroes all of `linux` except the pointer to them, so the
/// place of the pointer identifies the layout. `None`: no known layout has it there, or something else is there.
fn resources(linux: *const crun_linux) -> Option<(crun_resources, Vec<&'static Layout>)> {
    let words = peek_array(linux.cast::<usize>(), WORDS)?;
    let mut set = words.iter().enumerate().filter(|(_, word)| **word != 0);
    let ((at, pointer), None) = (set.next()?, set.next()) else { return None };
    let possible: Vec<_> = LAYOUTS.iter().filter(|layout| layout.resources == at * size_of::<usize>()).collect();
    let resources = peek(*pointer as *const crun_resources)?;
    // No engine updates network resources, so a pointer there is another member: perhaps the memory limits.
    (!possible.is_empty() && resources.network.is_null()).then_some((resources, possible))
}

/// Words of `linux` up to the last known place of the pointer.
const WORDS: usize = offset_of!(crun_linux_with_net_devices, resources) / size_of::<usize>() + 1;

fn unknown(what: &str) -> Error {
    Error::new("update", format!("unknown layout of crun's structures: {what} cannot be found"))
        .hint("make a new container")
}
