//! Memory that crun frees: malloc'ed, so nothing here may be a Rust allocation.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use crate::error::{Error, Result};

/// Size in bytes of a new struct. It is larger than every known struct, and later versions may append members, which
/// then read as zero.
const STRUCT_SIZE: usize = 256;

/// A new struct: its members are zero.
pub fn new_struct<T>() -> Result<*mut T> {
    const { assert!(size_of::<T>() <= STRUCT_SIZE) };
    Ok(zeroed(STRUCT_SIZE)?.cast())
}

/// A copy of an array of pointers, with a NULL after the last, as crun's own arrays have it.
pub fn array<T>(from: &[*mut T]) -> Result<*mut *mut T> {
    let at = zeroed((from.len() + 1) * size_of::<*mut T>())?.cast::<*mut T>();
    // SAFETY: the new array has room for one element more than `from` has.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), at, from.len()) };
    Ok(at)
}

/// A copy of an array of strings, with a NULL after the last.
pub fn strings(from: &[String]) -> Result<*mut *mut c_char> {
    array(&from.iter().map(|s| string(s.as_bytes())).collect::<Result<Vec<_>>>()?)
}

/// A copy of a string.
pub fn string(from: &[u8]) -> Result<*mut c_char> {
    let from = CString::new(from).map_err(|e| Error::new("edits", e.to_string()))?;
    let bytes = from.as_bytes_with_nul();
    let at = zeroed(bytes.len())?.cast::<u8>();
    // SAFETY: the new block has as many bytes as `bytes`.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    Ok(at.cast())
}

fn zeroed(bytes: usize) -> Result<*mut c_void> {
    // SAFETY: calloc has no preconditions.
    let at = unsafe { libc::calloc(1, bytes) };
    if at.is_null() { Err(Error::new("crun", "out of memory")) } else { Ok(at) }
}
