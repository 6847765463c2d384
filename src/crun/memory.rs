//! The limits of memory in crun's structs: where they are, and how they are raised.

use libc::{c_char, c_void};

use super::apply::string;
use super::config::{Memory, Resources};
use super::peek::{is_text, peek, peek_array};
use super::proof::{Mismatch, pointers, read, same};
use super::sys::{crun_map, crun_memory_interleaved, crun_memory_trailing, crun_resources};
use crate::{error, limits};

/// The limits that are there and may be raised, where the proof has found them.
#[derive(Debug, Default)]
pub struct Limits {
    /// Memory, and memory with swap.
    numbers: Vec<*mut i64>,
    /// Those of cgroup v2's own files, with their texts.
    texts: Vec<(*mut *mut c_char, String)>,
}

impl Limits {
    /// Makes everything that raising them by `by` bytes takes.
    pub fn raised(&self, by: u64) -> error::Result<Raised<'_>> {
        let texts = self.texts.iter().filter_map(|(at, text)| Some((*at, limits::raised_text(text, by)?)));
        let texts = texts.map(|(at, text)| Ok((at, string(text.as_bytes())?))).collect::<error::Result<_>>()?;
        Ok(Raised { numbers: &self.numbers, by, texts })
    }
}

/// What is still to be written.
pub struct Raised<'a> {
    numbers: &'a [*mut i64],
    by: u64,
    texts: Vec<(*mut *mut c_char, *mut c_char)>,
}

impl Raised<'_> {
    /// # Safety
    /// The structs of the proof are alive and used by nobody meanwhile.
    pub unsafe fn commit(&self) {
        for at in self.numbers {
            // SAFETY: proven.
            unsafe { **at = limits::raised(**at, self.by) };
        }
        for (at, text) in &self.texts {
            // SAFETY: proven.
            unsafe { **at = *text };
        }
    }
}

/// Proves that the limits in `got` are those of `want`.
pub fn prove(got: &crun_resources, want: &Resources) -> Result<Limits, Mismatch> {
    // Without either, nothing will be written.
    let numbers = match want.memory.as_ref().filter(|want| want.limit.is_some() || want.swap.is_some()) {
        Some(want) => numbers(got.memory, want, Wanted::All).ok_or("linux.resources.memory")?,
        None => Vec::new(),
    };
    let texts = texts(got.unified, want)?;
    Ok(Limits { numbers, texts })
}

/// The same for an update, which has any of them or none. `None`: there are others than `want`'s.
pub fn prove_update(got: &crun_resources, want: &Resources) -> Option<Limits> {
    let mut limits = Limits::default();
    if !got.memory.is_null() {
        limits.numbers = numbers(got.memory, &want.memory.clone().unwrap_or_default(), Wanted::Part)?;
    }
    if !got.unified.is_null() && has_limit(got.unified) {
        limits.texts = texts(got.unified, want).ok().filter(|texts| !texts.is_empty())?;
    }
    Some(limits)
}

/// Whether one of the files is a limit; a map that cannot be read may have any.
fn has_limit(map: *mut crun_map) -> bool {
    let keys = peek(map).and_then(|map| peek_array(map.keys, map.len));
    keys.is_none_or(|keys| limits::UNIFIED.iter().any(|name| keys.iter().any(|key| is_text(*key, Some(name)))))
}

/// How much of what is wanted has to be there.
#[derive(Clone, Copy)]
enum Wanted {
    All,
    Part,
}

impl Wanted {
    /// Whether a member, with its "present" bit, is as it is stored for `want`.
    fn is<T: Default + PartialEq>(self, got: (T, bool), want: Option<T>) -> bool {
        let present = want.is_some();
        let absent = matches!(self, Self::Part) && got == (T::default(), false);
        absent || got == (want.unwrap_or_default(), present)
    }
}

/// The limits of memory and of memory with swap in `memory`, in whichever layout it is. `None`: in neither.
fn numbers(memory: *mut c_void, want: &Memory, wanted: Wanted) -> Option<Vec<*mut i64>> {
    let (interleaved, trailing) = (memory.cast::<crun_memory_interleaved>(), memory.cast::<crun_memory_trailing>());
    let [limit, swap] = match (is_interleaved(interleaved, want, wanted), is_trailing(trailing, want, wanted)) {
        // SAFETY: places within the struct that has just been read.
        (true, false) => unsafe { [&raw mut (*interleaved).limit, &raw mut (*interleaved).swap] },
        // SAFETY: as above.
        (false, true) => unsafe { [&raw mut (*trailing).limit, &raw mut (*trailing).swap] },
        // Nothing at all.
        (true, true) if matches!(wanted, Wanted::Part) => return Some(Vec::new()),
        _ => return None,
    };
    Some([(limit, want.limit), (swap, want.swap)].into_iter().filter_map(|(at, is)| is.map(|_| at)).collect())
}

fn is_interleaved(at: *const crun_memory_interleaved, want: &Memory, wanted: Wanted) -> bool {
    let Some(got) = peek(at) else { return false };
    // Of the bytes with the "present" bits the other seven bits are nobody's.
    let bit = |byte: u8| byte & 1 == 1;
    let flag = |got, want: Option<bool>| wanted.is(got, want.map(u8::from));
    wanted.is((got.kernel, bit(got.kernel_present)), want.kernel)
        && wanted.is((got.kernel_tcp, bit(got.kernel_tcp_present)), want.kernel_tcp)
        && wanted.is((got.limit, bit(got.limit_present)), want.limit)
        && wanted.is((got.reservation, bit(got.reservation_present)), want.reservation)
        && wanted.is((got.swap, bit(got.swap_present)), want.swap)
        && wanted.is((got.swappiness, bit(got.swappiness_present)), want.swappiness)
        && flag((got.disable_oom_killer, bit(got.disable_oom_killer_present)), want.disable_oom_killer)
        && flag((got.use_hierarchy, bit(got.use_hierarchy_present)), want.use_hierarchy)
        && flag((got.check_before_update, bit(got.check_before_update_present)), want.check_before_update)
}

fn is_trailing(at: *const crun_memory_trailing, want: &Memory, wanted: Wanted) -> bool {
    let Some(got) = peek(at) else { return false };
    let bit = |n: usize| got.present[n / 8] >> (n % 8) & 1 == 1;
    let flag = |got, want: Option<bool>| wanted.is(got, want.map(u8::from));
    wanted.is((got.kernel, bit(0)), want.kernel)
        && wanted.is((got.kernel_tcp, bit(1)), want.kernel_tcp)
        && wanted.is((got.limit, bit(2)), want.limit)
        && wanted.is((got.reservation, bit(3)), want.reservation)
        && wanted.is((got.swap, bit(4)), want.swap)
        && wanted.is((got.swappiness, bit(5)), want.swappiness)
        && flag((got.disable_oom_killer, bit(6)), want.disable_oom_killer)
        && flag((got.use_hierarchy, bit(7)), want.use_hierarchy)
        && flag((got.check_before_update, bit(8)), want.check_before_update)
}

/// The limits in the map of cgroup v2's own files.
fn texts(map: *mut crun_map, want: &Resources) -> Result<Vec<(*mut *mut c_char, String)>, Mismatch> {
    let name = || "linux.resources.unified".to_owned();
    let Some(want) = want.unified.as_ref().filter(|map| limits::UNIFIED.iter().any(|key| map.contains_key(*key)))
    else {
        return Ok(Vec::new());
    };
    let got = read(map, &name())?;
    let keys = pointers(got.keys, got.len, want.len(), name)?;
    let values = pointers(got.values, got.len, want.len(), name)?;
    let mut found = Vec::new();
    for (key, value) in want {
        let at = keys.iter().position(|at| is_text(*at, Some(key))).ok_or_else(name)?;
        same(is_text(values[at], Some(value)), name)?;
        if limits::UNIFIED.contains(&key.as_str()) {
            found.push((got.values.wrapping_add(at), value.clone()));
        }
    }
    Ok(found)
}
