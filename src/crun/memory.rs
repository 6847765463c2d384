//! Memory limits in crun's structs: their places, their values, and how they are changed.

use libc::c_char;

use super::alloc::string;
use super::compare::{Mismatch, pointers, read, same};
use super::layout::{LEAST, Layout, MemoryStruct, Present};
use super::peek::{is_text, peek, peek_array, peek_text};
use super::sys::{crun_map, crun_resources};
use crate::edits::memory_limits::{Change, Memory, RequestedLimits, UNIFIED};
use crate::error;

/// The memory limits in one configuration, with their addresses.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    memory: Option<MemoryStruct>,
    /// Limits in cgroup v2's own files: index in [`UNIFIED`], address of the text, and the text.
    files: Vec<(usize, *mut *mut c_char, String)>,
}

impl Limits {
    /// The new values after `change`. Nothing is written before [`Changed::commit`].
    pub fn changed(&self, change: &Change) -> error::Result<Changed> {
        let of = |at, old: Option<i64>, new: fn(&Change, i64) -> i64| old.map(|old| (at, new(change, old)));
        let numbers = self
            .memory
            .iter()
            .flat_map(|view| [of(view.limit, view.is.limit, Change::limit), of(view.swap, view.is.swap, Change::swap)]);
        let texts = self.files.iter().filter_map(|(index, at, old)| Some((*at, change.file(*index, old)?)));
        let texts = texts.map(|(at, text)| Ok((at, string(text.as_bytes())?))).collect::<error::Result<_>>()?;
        Ok(Changed { numbers: numbers.flatten().collect(), texts })
    }

    /// The values of the limits.
    pub fn named(&self) -> RequestedLimits {
        let files = self.files.iter().map(|(index, _, text)| (UNIFIED[*index].to_owned(), text.clone()));
        RequestedLimits { memory: self.memory.as_ref().map(|view| view.is.clone()), unified: Some(files.collect()) }
    }
}

/// Values still to be written.
pub struct Changed {
    numbers: Vec<(*mut i64, i64)>,
    texts: Vec<(*mut *mut c_char, *mut c_char)>,
}

impl Changed {
    /// # Safety
    /// The structs in which the limits were found are alive, and nothing else uses them during the call.
    pub unsafe fn commit(&self) {
        for (at, number) in &self.numbers {
            // SAFETY: the address is within a struct in which limits were found.
            unsafe { **at = *number };
        }
        for (at, text) in &self.texts {
            // SAFETY: as above.
            unsafe { **at = *text };
        }
    }
}

/// Proves that the limits in `got` are those in `want`.
pub fn prove(got: &crun_resources, want: &RequestedLimits, layout: &Layout) -> Result<Limits, Mismatch> {
    // Other limits are not changed.
    let memory = match want.memory.as_ref().filter(|want| want.limit.is_some() || want.swap.is_some()) {
        Some(want) => {
            Some(layout.memory(got.memory).filter(|found| found.is == *want).ok_or("linux.resources.memory")?)
        }
        None => None,
    };
    Ok(Limits { memory, files: proven_files(got.unified, want)? })
}

/// Finds the limits of an update, which has no config.json to compare with, in one of the layouts `possible`. `None`:
/// no layout fits, or more than one.
pub fn find(got: &crun_resources, possible: &[&Layout]) -> Option<Limits> {
    let files = if got.unified.is_null() { Vec::new() } else { found_files(got.unified)? };
    if got.memory.is_null() {
        return Some(Limits { memory: None, files });
    }
    let plausible = |found: &MemoryStruct| found.numbers().all(|limit| !(1..LEAST).contains(&limit));
    let read = |present| {
        let layout = possible.iter().find(|layout| layout.present == present)?;
        layout.memory(got.memory).filter(plausible)
    };
    let memory = match (read(Present::Interleaved), read(Present::Trailing)) {
        (Some(interleaved), Some(trailing)) if trailing.is == Memory::default() => {
            // A trailing struct is shorter, so the interleaved one was read from beyond its end.
            let has_limits = interleaved.numbers().any(|limit| limit != 0);
            has_limits.then_some(interleaved)
        }
        (Some(_), Some(_)) => return None,
        (one, other) => Some(one.or(other)?),
    };
    Some(Limits { memory, files })
}

/// Proves that the map of cgroup v2's own files is that in `want`, and returns its limits.
fn proven_files(
    map: *mut crun_map,
    want: &RequestedLimits,
) -> Result<Vec<(usize, *mut *mut c_char, String)>, Mismatch> {
    let name = || "linux.resources.unified".to_owned();
    let Some(want) = want.unified.as_ref().filter(|map| UNIFIED.iter().any(|key| map.contains_key(*key))) else {
        return Ok(Vec::new());
    };
    let got = read(map, &name())?;
    let keys = pointers(got.keys, got.len, want.len(), name)?;
    let values = pointers(got.values, got.len, want.len(), name)?;
    let mut found = Vec::new();
    for (key, value) in want {
        let at = keys.iter().position(|at| is_text(*at, Some(key))).ok_or_else(name)?;
        same(is_text(values[at], Some(value)), name)?;
        if let Some(index) = UNIFIED.iter().position(|name| name == key) {
            found.push((index, got.values.wrapping_add(at), value.clone()));
        }
    }
    Ok(found)
}

/// The same for a map of unknown content.
fn found_files(map: *mut crun_map) -> Option<Vec<(usize, *mut *mut c_char, String)>> {
    let got = peek(map)?;
    let (keys, values) = (peek_array(got.keys, got.len)?, peek_array(got.values, got.len)?);
    let mut found = Vec::new();
    for (at, (key, value)) in keys.into_iter().zip(values).enumerate() {
        if let Some(index) = UNIFIED.iter().position(|name| is_text(key, Some(name))) {
            found.push((index, got.values.wrapping_add(at), peek_text(value, LONGEST_LIMIT)?));
        }
    }
    Some(found)
}

/// Limit in bytes for the text of a limit, longer than any number and than `max`.
const LONGEST_LIMIT: usize = 32;
