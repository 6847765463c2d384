//! Whether a QEMU uses an image.
//!
//! QEMU coordinates access with byte-range locks: one byte per permission it uses (from 100), one per permission it
//! denies to others (from 200). QEMU enforces them itself when it starts; they are only queried here, so that the user
//! gets a clear message earlier.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};

/// Offset of the first group's bytes.
const DONE: libc::off_t = 100;
/// End of the second group, which begins a hundred bytes after the first.
const END: libc::off_t = 300;
/// Reading, writing, …: the place of writing in each group.
const WRITING: libc::off_t = 1;

/// Whether a QEMU has the image in `file` open.
///
/// # Errors
/// A file system without locks.
pub fn is_used(file: &File) -> Result<bool> {
    is_locked(file, DONE, END)
}

/// Whether a QEMU may write to the image in `file`.
///
/// # Errors
/// As [`is_used`].
pub fn is_written(file: &File) -> Result<bool> {
    is_locked(file, DONE + WRITING, DONE + WRITING + 1)
}

fn is_locked(file: &File, begin: libc::off_t, end: libc::off_t) -> Result<bool> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: begin,
        l_len: end - begin,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).map_err(no_locks)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// QEMU asks once whether the kernel has such locks, not whether the file system has: there it opens no image.
pub(super) fn no_locks(e: Errno) -> Error {
    Error::new("the VM image's locks", e.desc()).hint("QEMU opens no image on a file system without locks")
}
