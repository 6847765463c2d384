//! Comparisons of crun's structs with `config.json`, through the kernel, and the error about a difference.

use libc::c_char;

use super::peek::{Plain, is_text, peek, peek_array};
use crate::error::Error;

/// The first difference, as a path into the configuration.
pub type Mismatch = String;

/// An error with `name` unless `same`.
pub fn same(same: bool, name: impl FnOnce() -> Mismatch) -> Result<(), Mismatch> {
    if same { Ok(()) } else { Err(name()) }
}

/// The value at `at`.
pub fn read<T: Plain>(at: *mut T, name: &str) -> Result<T, Mismatch> {
    peek(at).ok_or_else(|| name.to_owned())
}

/// Compares the string at `at`; NULL is `None`.
pub fn text(at: *const c_char, want: &Option<String>, name: impl FnOnce() -> Mismatch) -> Result<(), Mismatch> {
    same(is_text(at, want.as_deref()), name)
}

/// Compares the array of `len` strings at `at`; an empty array is `None` as well.
pub fn texts(
    at: *mut *mut c_char,
    len: usize,
    want: &Option<Vec<String>>,
    name: impl Fn() -> Mismatch,
) -> Result<(), Mismatch> {
    let want = want.as_deref().unwrap_or_default();
    let got = pointers(at, len, want.len(), &name)?;
    same(got.iter().zip(want).all(|(at, want)| is_text(*at, Some(want))), name)
}

/// The array at `at` if its length `len` is `want`; the pointer of an empty array may be anything.
pub fn pointers<T>(
    at: *mut *mut T,
    len: usize,
    want: usize,
    name: impl Fn() -> Mismatch,
) -> Result<Vec<*mut T>, Mismatch> {
    same(len == want, &name)?;
    peek_array(at, len).ok_or_else(name)
}

/// The error about the first difference from config.json.
pub fn unknown_layout(at: &str) -> Error {
    Error::new("crun", format!("unknown layout of its structures: {at} is not what config.json says")).hint(HINT)
}

/// Hint for an unknown crun.
pub const HINT: &str = "`crun --version` tells which crun this is; 1.8.1 to 1.28 are known to work; --runtime crun-qemu works with every one";
