//! Memory limits as every layout returns them.

use crate::edits::memory_limits::Memory;

/// Least plausible limit in bytes, a page. Nothing is mapped below this address either.
pub const LEAST: i64 = 4096;

/// The content of a struct of memory limits, and the addresses of the members that are changed.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryStruct {
    pub is: Memory,
    pub limit: *mut i64,
    pub swap: *mut i64,
}

impl MemoryStruct {
    /// The limits in bytes that are present.
    pub fn numbers(&self) -> impl Iterator<Item = i64> {
        let is = &self.is;
        [is.kernel, is.kernel_tcp, is.limit, is.reservation, is.swap].into_iter().flatten()
    }
}

/// A member with its "present" bit. `None`: it is not present, yet has a value.
pub fn member<T: Default + PartialEq>(value: T, present: bool) -> Option<Option<T>> {
    if present { Some(Some(value)) } else { (value == T::default()).then_some(None) }
}

/// The same for a flag, which is a byte; `None` also if it is neither 0 nor 1.
pub fn flag(byte: u8, present: bool) -> Option<Option<bool>> {
    let value = member(byte, present)?;
    value.is_none_or(|byte| byte < 2).then(|| value.map(|byte| byte == 1))
}
