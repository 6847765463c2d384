//! The limits of memory in crun's structs: where they are, what they are, and how they are changed.

use libc::{c_char, c_void};

use super::apply::string;
use super::layout::Present;
use super::peek::{is_text, peek, peek_array, peek_text};
use super::sys::{crun_map, crun_memory_interleaved, crun_memory_trailing, crun_resources};
use super::verify::{Mismatch, pointers, read, same};
use crate::edits::memory_limits::{Change, Memory, RequestedLimits, UNIFIED};
use crate::error;

/// The limits that are there, where they have been found.
#[derive(Debug, Default, PartialEq)]
pub struct Limits {
    memory: Option<View>,
    /// Limits in cgroup v2's own files: index in [`UNIFIED`], address of the text, and the text.
    files: Vec<(usize, *mut *mut c_char, String)>,
}

/// The struct of limits, as one of the layouts has it.
#[derive(Debug, Clone, PartialEq)]
struct View {
    is: Memory,
    limit: *mut i64,
    swap: *mut i64,
}

impl View {
    /// The limits in bytes that are there.
    fn numbers(&self) -> impl Iterator<Item = i64> {
        let is = &self.is;
        [is.kernel, is.kernel_tcp, is.limit, is.reservation, is.swap].into_iter().flatten()
    }
}

impl Limits {
    /// Makes everything that the change takes.
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
    /// The structs in which the limits were found are alive and used by nobody meanwhile.
    pub unsafe fn commit(&self) {
        for (at, number) in &self.numbers {
            // SAFETY: found there.
            unsafe { **at = *number };
        }
        for (at, text) in &self.texts {
            // SAFETY: as above.
            unsafe { **at = *text };
        }
    }
}

/// Proves that the limits in `got` are those in `want`.
pub fn prove(got: &crun_resources, want: &RequestedLimits, present: Present) -> Result<Limits, Mismatch> {
    // Without either, nothing will be written.
    let memory = match want.memory.as_ref().filter(|want| want.limit.is_some() || want.swap.is_some()) {
        Some(want) => Some(view(got.memory, present).filter(|view| view.is == *want).ok_or("linux.resources.memory")?),
        None => None,
    };
    Ok(Limits { memory, files: proven_files(got.unified, want)? })
}

/// Finds the limits of an update, of which nothing is known but that crun made them, in one of the layouts `known`. `None`:
/// they are in no layout, or could be in either.
pub fn find(got: &crun_resources, known: &[Present]) -> Option<Limits> {
    let files = if got.unified.is_null() { Vec::new() } else { found_files(got.unified)? };
    if got.memory.is_null() {
        return Some(Limits { memory: None, files });
    }
    let plausible = |view: &View| view.numbers().all(|limit| !(1..PAGE).contains(&limit));
    let look = |present| known.contains(&present).then(|| view(got.memory, present)).flatten().filter(plausible);
    let memory = match (look(Present::Interleaved), look(Present::Trailing)) {
        (Some(interleaved), Some(trailing)) if trailing.is == Memory::default() => {
            // A struct of the trailing layout is the shorter one: beyond it there may be anything.
            let has_limits = interleaved.numbers().any(|limit| limit != 0);
            has_limits.then_some(interleaved)
        }
        (Some(_), Some(_)) => return None,
        (one, other) => Some(one.or(other)?),
    };
    Some(Limits { memory, files })
}

/// The struct at `memory`, where it makes sense in that layout: what is absent is zero.
fn view(memory: *mut c_void, present: Present) -> Option<View> {
    let (interleaved, trailing) = (memory.cast::<crun_memory_interleaved>(), memory.cast::<crun_memory_trailing>());
    let (is, limit, swap) = match present {
        // SAFETY: places are computed and nothing is read.
        Present::Interleaved => unsafe {
            (read_interleaved(interleaved)?, &raw mut (*interleaved).limit, &raw mut (*interleaved).swap)
        },
        // SAFETY: as above.
        Present::Trailing => unsafe {
            (read_trailing(trailing)?, &raw mut (*trailing).limit, &raw mut (*trailing).swap)
        },
    };
    Some(View { is, limit, swap })
}

/// A member with its "present" bit. `None`: it is absent, yet has a value.
fn member<T: Default + PartialEq>(value: T, present: bool) -> Option<Option<T>> {
    if present { Some(Some(value)) } else { (value == T::default()).then_some(None) }
}

/// No limit is below, nor is anything mapped below, bytes.
const PAGE: i64 = 4096;

/// The same for a flag, which is a byte; `None` also if it is neither 0 nor 1.
fn flag(byte: u8, present: bool) -> Option<Option<bool>> {
    let value = member(byte, present)?;
    value.is_none_or(|byte| byte < 2).then(|| value.map(|byte| byte == 1))
}

fn read_interleaved(at: *const crun_memory_interleaved) -> Option<Memory> {
    let got = peek(at)?;
    // The other seven bits of a byte with a "present" bit are undefined.
    let bit = |byte: u8| byte & 1 == 1;
    Some(Memory {
        kernel: member(got.kernel, bit(got.kernel_present))?,
        kernel_tcp: member(got.kernel_tcp, bit(got.kernel_tcp_present))?,
        limit: member(got.limit, bit(got.limit_present))?,
        reservation: member(got.reservation, bit(got.reservation_present))?,
        swap: member(got.swap, bit(got.swap_present))?,
        swappiness: member(got.swappiness, bit(got.swappiness_present))?,
        disable_oom_killer: flag(got.disable_oom_killer, bit(got.disable_oom_killer_present))?,
        use_hierarchy: flag(got.use_hierarchy, bit(got.use_hierarchy_present))?,
        check_before_update: flag(got.check_before_update, bit(got.check_before_update_present))?,
    })
}

fn read_trailing(at: *const crun_memory_trailing) -> Option<Memory> {
    let got = peek(at)?;
    // In the other layout this would be a "present" bit.
    if (1..PAGE as usize).contains(&(got.residual as usize)) {
        return None;
    }
    let bit = |n: usize| got.present[n / 8] >> (n % 8) & 1 == 1;
    Some(Memory {
        kernel: member(got.kernel, bit(0))?,
        kernel_tcp: member(got.kernel_tcp, bit(1))?,
        limit: member(got.limit, bit(2))?,
        reservation: member(got.reservation, bit(3))?,
        swap: member(got.swap, bit(4))?,
        swappiness: member(got.swappiness, bit(5))?,
        disable_oom_killer: flag(got.disable_oom_killer, bit(6))?,
        use_hierarchy: flag(got.use_hierarchy, bit(7))?,
        check_before_update: flag(got.check_before_update, bit(8))?,
    })
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

/// No number of bytes is longer in a file, nor is `max`, bytes.
const LONGEST_LIMIT: usize = 32;
