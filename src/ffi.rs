//! The C ABI: the one exported symbol, the functions behind it, and the guard around each of them.
//!
//! The code runs in crun's process: [`RustApi::create`] as `crun create` or `crun run` (or `update`), the others in the
//! child that becomes the container's process. crun's pointers are not trusted ([`crate::crun`]).

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

/// The functions of the Rust part.
///
/// The first two return 0, or -1 with `*msg` set to a line that the caller frees (NULL when memory ran out). `msg` may
/// be NULL. The others return only on failure, which they report on stderr, with the status to exit with.
#[repr(C)]
pub struct RustApi {
    /// Prepares a container's VM and edits `def`, crun's parsed configuration, so that crun runs the VM.
    ///
    /// `context` is the context of crun's command. With NULL as `def`, nothing is done. A `def` without a process is
    /// one of `crun update`: it is edited so that the memory limits stay as they were at start. On failure, `def` is
    /// unchanged.
    pub create:
        unsafe extern "C" fn(context: *const crun_context, def: *mut crun_config, msg: *mut *mut c_char) -> c_int,
    /// Sets up the guest's network, in the container's namespaces and before its mounts, and changes the ids in
    /// `container` so that the container's process runs as root there.
    ///
    /// `create` was called in the same process or in its parent. `container` is unchanged unless it is the container
    /// whose configuration `create` has verified.
    pub network: unsafe extern "C" fn(
        context: *const crun_context,
        container: *mut crun_container,
        msg: *mut *mut c_char,
    ) -> c_int,
    /// Becomes the supervisor.
    pub run: extern "C" fn() -> c_int,
    /// Becomes the client of `podman exec` for the command `argv`; `envp` is the environment of the command, not of the
    /// client. Both are arrays of strings that a NULL ends, or NULL.
    pub exec: unsafe extern "C" fn(argv: *const *const c_char, envp: *const *const c_char) -> c_int,
}

static API: RustApi = RustApi { create, network, run, exec };

/// Returns the functions. They stay valid as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn crun_qemu_core() -> *const RustApi {
    &raw const API
}

/// # Safety
/// `context` and `def` are what crun, of whatever version, hands to its handlers.
unsafe extern "C" fn create(context: *const crun_context, def: *mut crun_config, msg: *mut *mut c_char) -> c_int {
    boundary(msg, || {
        if def.is_null() {
            return Ok(());
        }
        let context = Context::read(context)?;
        if crun::is_update(def)? {
            // SAFETY: `def` is crun's, which waits for this call to return.
            return unsafe { crun::update::in_structs(context.states.as_deref(), &context.id, def) };
        }
        // SAFETY: `def` is crun's, of whatever version.
        unsafe {
            crun::modify(def, context.bundle()?, &context.id, |bundle, id| {
                prepare::create(bundle, id, &prepare::installed_init())
            })
        }
    })
}

/// # Safety
/// `context` and `container` are what crun, of whatever version, hands to its handlers.
unsafe extern "C" fn network(
    context: *const crun_context,
    container: *mut crun_container,
    msg: *mut *mut c_char,
) -> c_int {
    boundary(msg, || {
        let context = Context::read(context)?;
        let bundle = context.bundle()?;
        // SAFETY: crun waits for this call to return.
        unsafe { become_root(container, known()) }?;
        prepare::network(bundle, Pid::this())
    })
}

extern "C" fn run() -> c_int {
    last_act(exec_supervisor::run)
}

/// # Safety
/// Both are arrays of NUL-terminated strings that a NULL ends, or NULL.
unsafe extern "C" fn exec(argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: the caller passes such arrays, and they live until this call returns.
    last_act(|| unsafe { exec_supervisor::exec(&strings(argv), &strings(envp)) })
}

/// Runs the body of a function that reports to crun: an error or a panic becomes a negative status and a line of text.
fn boundary(msg: *mut *mut c_char, body: impl FnOnce() -> Result<()>) -> c_int {
    match guarded(body) {
        Ok(()) => 0,
        Err(error) => {
            if !msg.is_null() {
                // SAFETY: `msg` points to the caller's variable.
                unsafe { *msg = malloced(&line(error)) };
            }
            -1
        }
    }
}

/// Runs the body of a function that is a process's last act: an error or a panic becomes a line on stderr. The status
/// is 127 if an executable does not exist, else 126, as in shells and podman.
fn last_act(body: impl FnOnce() -> Result<exec_supervisor::Failure>) -> c_int {
    let (text, status) = match guarded(body) {
        Ok(failure) => (line(failure.error), failure.status),
        Err(error) => (line(error), 126),
    };
    // In one write, because other processes write to stderr too. If stderr is closed, the failure cannot be reported.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    status
}

/// Runs `body`. A panic becomes an error with the place of the panic, and prints nothing.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let message = Arc::new(Mutex::new(String::new()));
    let in_hook = Arc::clone(&message);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut message) = in_hook.lock() {
            *message = info.to_string();
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|_| {
        let why = message.lock().map(|message| message.clone()).unwrap_or_default();
        Err(Error::new("internal error", why))
    })
}

/// A copy of `text` that C frees; NULL when memory ran out.
fn malloced(text: &str) -> *mut c_char {
    // SAFETY: the new block has room for the text and its end.
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
/// `from` is NULL or an array of NUL-terminated strings that a NULL ends, for as long as the result is used.
unsafe fn strings<'a>(from: *const *const c_char) -> Vec<&'a CStr> {
    if from.is_null() {
        return Vec::new();
    }
    // SAFETY: every element before the NULL is a string.
    unsafe { (0..).map(|i| *from.add(i)).take_while(|s| !s.is_null()).map(|s| CStr::from_ptr(s)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status and the line that crun gets.
    fn reported(body: impl FnOnce() -> Result<()>) -> (c_int, String) {
        let mut msg = ptr::null_mut();
        let status = boundary(&mut msg, body);
        if msg.is_null() {
            return (status, String::new());
        }
        // SAFETY: `msg` is a string from `malloced`.
        let text = unsafe { CStr::from_ptr(msg) }.to_str().unwrap().to_owned();
        // SAFETY: as above.
        unsafe { libc::free(msg.cast()) };
        (status, text)
    }

    #[test]
    fn success_error_and_panic_are_reported() {
        assert_eq!(reported(|| Ok(())), (0, String::new()));
        assert_eq!(reported(|| Err(Error::new("a", "b").hint("c"))), (-1, "qemu: a: b (c)".into()));
        let (status, line) = reported(|| panic!("first\nsecond"));
        assert_eq!(status, -1);
        assert!(line.starts_with("qemu: internal error: panicked at src/ffi.rs:"), "{line}");
        assert!(line.ends_with(r"\nfirst\nsecond"), "{line}");
        assert_eq!(boundary(ptr::null_mut(), || Err(Error::new("a", "b"))), -1);
    }

    #[test]
    fn null_pointers_are_errors() {
        let mut msg = ptr::null_mut();
        // SAFETY: all pointers may be NULL.
        assert_eq!(unsafe { create(ptr::null(), ptr::null_mut(), &mut msg) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { network(ptr::null(), ptr::null_mut(), &mut msg) }, -1);
        // SAFETY: `msg` is a string from `malloced`.
        assert_eq!(unsafe { CStr::from_ptr(msg) }, c"qemu: crun: it passed no context");
        // SAFETY: as above; the string is freed once.
        unsafe { libc::free(msg.cast()) };
    }

    /// `BLESS=1 cargo test` rewrites the header. It is committed, so that a change of the ABI shows in review.
    #[test]
    fn header_declares_the_exports() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
        let mut text = Vec::new();
        let source = root.join("src/ffi.rs");
        cbindgen::Builder::new().with_config(config).with_src(source).generate().unwrap().write(&mut text);
        let (path, text) = (root.join("include/crun_qemu.h"), String::from_utf8(text).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
