//! An image's file, read by offset with every offset checked.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// A file that holds an image, and its length.
pub(super) struct Source<'a> {
    name: &'a Path,
    file: &'a File,
    len: u64,
}

impl<'a> Source<'a> {
    /// Opens it; the length is found by seeking, because `fstat` does not report it for block devices.
    pub(super) fn open(name: &'a Path, file: &'a File) -> Result<Self> {
        let mut seeker = file;
        let len = seeker.seek(SeekFrom::End(0)).context(name.display())?;
        Ok(Self { name, file, len })
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The name of the file, for rules that depend on it.
    pub(super) fn name(&self) -> &Path {
        self.name
    }

    /// An error about this image.
    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        Error::new(self.name.display().to_string(), why)
    }

    /// Whether all `len` bytes at `offset` are in the file.
    pub(super) fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Fills `buf` from `offset`; `what` names what lies there.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8], what: &str) -> Result<()> {
        if !self.contains(offset, buf.len() as u64) {
            return Err(self.error(format!("{what} lies outside of the file: damaged or cut off")));
        }
        self.file.read_exact_at(buf, offset).context(self.name.display())
    }

    /// Fills `buf` from `offset` with the file's bytes, and with zeros beyond its end.
    pub(super) fn read_padded(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (head, tail) = buf.split_at_mut(there);
        tail.fill(0);
        self.file.read_exact_at(head, offset).context(self.name.display())
    }

    /// The big-endian number at `offset`, as all of qcow2's are.
    pub(super) fn be64(&self, offset: u64, what: &str) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(offset, &mut bytes, what)?;
        Ok(u64::from_be_bytes(bytes))
    }
}
