//! A file in memory, used again and again.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// Calls `body` with a file of these bytes, and `hole` bytes of nothing behind them.
pub fn with_file<T>(bytes: &[u8], hole: u64, body: impl FnOnce(&File) -> T) -> T {
    thread_local! {
        static FILE: File = memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).expect("memfd").into();
    }
    FILE.with(|file| {
        file.set_len(0).expect("empty");
        file.write_all_at(bytes, 0).expect("write");
        file.set_len(bytes.len() as u64 + hole).expect("length");
        body(file)
    })
}

/// By which others find it.
pub fn path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
