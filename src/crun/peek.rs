//! Reads memory through the kernel, so that a wrong pointer is an error and not a crash.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sys;

/// Types of which every bit pattern is a value.
///
/// # Safety
/// The type consists of integers and raw pointers.
pub unsafe trait Plain: Copy {}

// SAFETY: a raw pointer.
unsafe impl<T> Plain for *mut T {}
// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for usize {}
// SAFETY: bindgen's structs consist of integers and raw pointers; crun.h declares flags as unsigned char, not bool.
unsafe impl Plain for sys::crun_config {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_container {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_context {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_process {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_root {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_device {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_linux {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_resources {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_mount {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_device_rule_interleaved {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_device_rule_trailing {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_memory_interleaved {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_memory_trailing {}
// SAFETY: as above.
unsafe impl Plain for sys::crun_map {}

/// The value at `at`; `None` if that is not readable memory.
pub fn peek<T: Plain>(at: *const T) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    if !copy(at as usize, value.as_mut_ptr().cast(), size_of::<T>()) {
        return None;
    }
    // SAFETY: every byte is written, and every bit pattern is a value.
    Some(unsafe { value.assume_init() })
}

/// The array of `count` values at `at`.
pub fn peek_array<T: Plain>(at: *const T, count: usize) -> Option<Vec<T>> {
    (0..count).map(|i| peek(at.wrapping_add(i))).collect()
}

/// Whether the string at `at` is `want`; NULL for `None`.
pub fn is_text(at: *const libc::c_char, want: Option<&str>) -> bool {
    let Some(want) = want else { return at.is_null() };
    let mut got = vec![0xffu8; want.len() + 1];
    let len = got.len();
    !at.is_null() && copy(at as usize, got.as_mut_ptr(), len) && got.split_last() == Some((&0, want.as_bytes()))
}

/// The string at `at`, if it is UTF-8 and has at most `longest` bytes.
pub fn peek_text(at: *const libc::c_char, longest: usize) -> Option<String> {
    String::from_utf8(peek_bytes(at, longest)?).ok()
}

/// The same for any bytes.
pub fn peek_bytes(at: *const libc::c_char, longest: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for i in 0..=longest {
        match peek(at.cast::<u8>().wrapping_add(i))? {
            0 => return Some(text),
            byte => text.push(byte),
        }
    }
    None
}

/// Copies `len` bytes from `from`. Returns whether all of them were readable.
fn copy(from: usize, to: *mut u8, len: usize) -> bool {
    /// Whether the system call is denied, as in seccomp profiles for nested containers.
    static DENIED: AtomicBool = AtomicBool::new(false);
    if !DENIED.load(Ordering::Relaxed) {
        let local = libc::iovec { iov_base: to.cast(), iov_len: len };
        let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: len };
        // SAFETY: the kernel checks `remote`; `to` has room for `len` bytes.
        let n = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        let error = std::io::Error::last_os_error().raw_os_error();
        if n >= 0 || !matches!(error, Some(libc::EPERM | libc::ENOSYS)) {
            return usize::try_from(n) == Ok(len);
        }
        DENIED.store(true, Ordering::Relaxed);
    }
    copy_through_pipe(from, to, len)
}

/// The same by a write into a pipe, which checks addresses as well.
fn copy_through_pipe(from: usize, to: *mut u8, len: usize) -> bool {
    let Ok((reader, writer)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else { return false };
    // A pipe holds at least a page, so no write blocks.
    (0..len).step_by(4096).all(|at| {
        let n = (len - at).min(4096);
        // SAFETY: the kernel checks the source; `to` has room for `len` bytes, of which `n` are left from `at` on.
        unsafe {
            libc::write(writer.as_raw_fd(), (from.wrapping_add(at)) as *const libc::c_void, n) == n as isize
                && libc::read(reader.as_raw_fd(), to.add(at).cast(), n) == n as isize
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_addresses_are_not_read() {
        let value = 7usize as *mut u8;
        for at in [0, 1, 1 << 40, 1 << 63, usize::MAX] {
            assert_eq!(peek(at as *const *mut u8), None, "{at:#x}");
            let mut to = [0; 8];
            assert!(!copy_through_pipe(at, to.as_mut_ptr(), 8), "{at:#x}");
        }
        assert_eq!(peek(&raw const value), Some(value));
    }

    #[test]
    fn strings_are_read_up_to_their_end() {
        let text = c"/proc".as_ptr();
        for (want, is) in [(Some("/proc"), true), (Some("/pro"), false), (Some("/proc/"), false), (None, false)] {
            assert_eq!(is_text(text, want), is, "{want:?}");
        }
        for (longest, want) in [(5, Some("/proc")), (6, Some("/proc")), (4, None)] {
            assert_eq!(peek_text(text, longest).as_deref(), want, "{longest}");
        }
        assert_eq!((peek_text(std::ptr::null(), 5), peek_text(c"".as_ptr(), 0)), (None, Some(String::new())));
        assert_eq!(peek_text(c"\xff".as_ptr(), 5), None);
        assert!(is_text(std::ptr::null(), None));
        assert!(!is_text(std::ptr::null(), Some("")));
        assert!(!is_text(1 as _, Some("")));
    }

    #[test]
    fn a_pipe_copies_more_than_it_holds() {
        let from: Vec<u8> = (0..200_001u32).map(|i| i as u8).collect();
        let mut to = vec![0; from.len()];
        assert!(copy_through_pipe(from.as_ptr() as usize, to.as_mut_ptr(), from.len()));
        assert_eq!(from, to);
    }
}
