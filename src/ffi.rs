//! The C ABI: all exports and the guard around them.

use std::ffi::{CStr, c_char, c_int};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::{Arc, Mutex};

use nix::unistd::Pid;

use crate::crun::context::{Context, become_root, known};
use crate::crun::exec_supervisor;
use crate::crun::sys::{crun_config, crun_container, crun_context};
use crate::error::{Error, Result, line};
use crate::{crun, prepare};

/// Prepares a container's VM and edits `def`, crun's parsed configuration, to run it.
///
/// `context` is that of crun's command. `def` may be NULL: then nothing is done. For one without a process, as `crun
/// update` has it, `def` is edited to let the VM's memory alone. Returns 0, or -1 with `def` unchanged and `*msg` set to a
/// line that the caller frees (NULL when memory ran out). `msg` may be NULL.
///
/// # Safety
/// Both are what crun, of whatever version, hands to its handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crun_qemu_create(
    context: *const crun_context,
    def: *mut crun_config,
    msg: *mut *mut c_char,
) -> c_int {
    boundary(msg, || {
        if def.is_null() {
            return Ok(());
        }
        let context = Context::read(context)?;
        if crun::is_update(def)? {
            // SAFETY: the caller's promise.
            return unsafe { crate::crun::update::in_structs(context.states.as_deref(), &context.id, def) };
        }
        // SAFETY: the caller's promise.
        unsafe {
            crun::modify(def, context.bundle()?, &context.id, |bundle, id| {
                prepare::create(bundle, id, &prepare::installed_init())
            })
        }
    })
}

/// Sets up the guest's network, in the container's namespaces and before its mounts, and has the container's process run
/// as root there.
///
/// `crun_qemu_create` has been called in the same process or in its parent. Returns as that, with `container` unchanged
/// where it is not known for what it is.
///
/// # Safety
/// `context` and `container` are what crun, of whatever version, hands to its handlers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crun_qemu_network(
    context: *const crun_context,
    container: *mut crun_container,
    msg: *mut *mut c_char,
) -> c_int {
    boundary(msg, || {
        let context = Context::read(context)?;
        let bundle = context.bundle()?;
        // SAFETY: the caller's promise.
        unsafe { become_root(container, known()) }?;
        prepare::network(bundle, Pid::this())
    })
}

/// Becomes the supervisor. Comes back only on failure, reported on stderr, with the status to exit with.
#[unsafe(no_mangle)]
pub extern "C" fn crun_qemu_run() -> c_int {
    last_words(exec_supervisor::run)
}

/// Becomes the client of `podman exec` for the command `argv`, with `envp` for the command and not for the client.
/// Both end with NULL or are NULL. Comes back as `crun_qemu_run`.
///
/// # Safety
/// Both are arrays of NUL-terminated strings that a NULL ends, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crun_qemu_exec(argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: the caller's promise.
    last_words(|| unsafe { exec_supervisor::exec(&strings(argv), &strings(envp)) })
}

/// Only way out of the exports that report to crun: an error or a panic becomes a negative status and a line of text.
fn boundary(msg: *mut *mut c_char, body: impl FnOnce() -> Result<()>) -> c_int {
    match guarded(body) {
        Ok(()) => 0,
        Err(error) => {
            if !msg.is_null() {
                // SAFETY: `msg` is the caller's variable for this answer.
                unsafe { *msg = malloced(&line(error)) };
            }
            -1
        }
    }
}

/// Only way out of the exports that are a process's last act: an error or a panic becomes a line on stderr. The
/// statuses are the shell's and podman's own: 127 for an executable that is not there, else 126.
fn last_words(body: impl FnOnce() -> Result<exec_supervisor::Failure>) -> c_int {
    let (text, status) = match guarded(body) {
        Ok(failure) => (line(failure.error), failure.status),
        Err(error) => (line(error), 126),
    };
    // In one piece, for others write there too. Nobody is left to tell that stderr is closed.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    status
}

/// Runs `body`. A panic becomes an error that says where it was, and prints nothing of its own.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let told = Arc::new(Mutex::new(String::new()));
    let ours = Arc::clone(&told);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut told) = ours.lock() {
            *told = info.to_string();
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|_| {
        let why = told.lock().map(|told| told.clone()).unwrap_or_default();
        Err(Error::new("internal error", why))
    })
}

/// `text` in memory that C can free; NULL when there is none.
fn malloced(text: &str) -> *mut c_char {
    // SAFETY: malloc of a size; the copy stays within it.
    unsafe {
        let to = libc::malloc(text.len() + 1).cast::<u8>();
        if !to.is_null() {
            ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
            *to.add(text.len()) = 0;
        }
        to.cast()
    }
}

/// # Safety
/// `from` is NULL or an array of NUL-terminated strings that a NULL ends, for as long as the answer is used.
unsafe fn strings<'a>(from: *const *const c_char) -> Vec<&'a CStr> {
    if from.is_null() {
        return Vec::new();
    }
    // SAFETY: every element up to the NULL is there, and is a string.
    unsafe { (0..).map(|i| *from.add(i)).take_while(|s| !s.is_null()).map(|s| CStr::from_ptr(s)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: impl FnOnce() -> Result<()>) -> (c_int, String) {
        let mut msg = ptr::null_mut();
        let status = boundary(&mut msg, body);
        if msg.is_null() {
            return (status, String::new());
        }
        // SAFETY: the boundary's own string, freed once.
        let text = unsafe { CStr::from_ptr(msg) }.to_str().unwrap().to_owned();
        // SAFETY: as above.
        unsafe { libc::free(msg.cast()) };
        (status, text)
    }

    #[test]
    fn every_way_out() {
        assert_eq!(told(|| Ok(())), (0, String::new()));
        assert_eq!(told(|| Err(Error::new("a", "b").hint("c"))), (-1, "qemu: a: b (c)".into()));
        let (status, line) = told(|| panic!("first\nsecond"));
        assert_eq!(status, -1);
        assert!(line.starts_with("qemu: internal error: panicked at src/ffi.rs:"), "{line}");
        assert!(line.ends_with(r"\nfirst\nsecond"), "{line}");
        assert_eq!(boundary(ptr::null_mut(), || Err(Error::new("a", "b"))), -1);
    }

    #[test]
    fn null_is_an_error() {
        let mut msg = ptr::null_mut();
        // SAFETY: NULL is allowed everywhere.
        assert_eq!(unsafe { crun_qemu_create(ptr::null(), ptr::null_mut(), &mut msg) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { crun_qemu_network(ptr::null(), ptr::null_mut(), &mut msg) }, -1);
        // SAFETY: the boundary's own string.
        assert_eq!(unsafe { CStr::from_ptr(msg) }, c"qemu: crun: it passed no context");
        // SAFETY: as above, freed once.
        unsafe { libc::free(msg.cast()) };
    }
}
