//! The structs that crun passes beside the configuration: the command's context, and the container. Both are read
//! through the kernel and verified like the configuration.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libc::c_char;

use super::compare::{HINT, unknown_layout};
use super::config::Config;
use super::peek::{peek, peek_bytes, peek_text};
use super::sys::{crun_config, crun_container, crun_context};
use crate::error::{Error, Result};

/// The command's context.
#[derive(Debug)]
pub struct Context {
    /// Directory of crun's container states; `None`: its default.
    pub states: Option<PathBuf>,
    /// The container's id.
    pub id: String,
    bundle: PathBuf,
}

impl Context {
    /// Reads the context at `at`.
    ///
    /// # Errors
    /// `at` is not a context.
    pub fn read(at: *const crun_context) -> Result<Self> {
        if at.is_null() {
            return Err(Error::new("crun", "it passed no context"));
        }
        let unknown = |what| move || no_context(what);
        let got = peek(at).ok_or_else(unknown("the context"))?;
        let states = if got.state_root.is_null() { None } else { Some(path(got.state_root, "the state's root")?) };
        let id = peek_text(got.id, LONGEST_PATH).filter(|id| !id.is_empty() && !id.contains('/'));
        Ok(Self { states, id: id.ok_or_else(unknown("the container's id"))?, bundle: path(got.bundle, "the bundle")? })
    }

    /// The bundle. crun makes the path absolute, except in `update`, which has no bundle.
    ///
    /// # Errors
    /// The path is not absolute.
    pub fn bundle(&self) -> Result<&Path> {
        if self.bundle.is_absolute() { Ok(&self.bundle) } else { Err(no_context("the bundle")) }
    }
}

/// Facts about a container that were verified before crun forked the child that becomes its process.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    def: usize,
    user: (u32, u32),
}

impl Known {
    /// Facts about the configuration at `def`, which is `config`.
    pub fn new(def: *const crun_config, config: &Config) -> Self {
        let user = config.process.as_ref().and_then(|process| process.user.as_ref());
        let user = user.map_or((0, 0), |user| (user.uid.unwrap_or(0), user.gid.unwrap_or(0)));
        Self { def: def as usize, user }
    }
}

/// The facts of this process, which runs one command for one container. The child inherits them.
static KNOWN_HERE: Mutex<Option<Known>> = Mutex::new(None);

/// Keeps the facts for [`known`].
pub fn remember(known: Known) {
    *KNOWN_HERE.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
}

/// The facts that this process or its parent has verified.
pub fn known() -> Option<Known> {
    *KNOWN_HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the ids in crun's container to root of the container. crun took the ids from `process.user`, which may be
/// the image's USER. In the child, they are the ids of the process and the owner of its terminal.
///
/// # Errors
/// `at` is not the container that is known: another configuration, or other ids. Nothing has been written then.
///
/// # Safety
/// crun waits for this call to return.
pub unsafe fn become_root(at: *mut crun_container, known: Option<Known>) -> Result<()> {
    let got = peek(at).ok_or_else(|| unknown_layout("the container"))?;
    let known = known.filter(|known| known.def == got.container_def as usize);
    let known = known.ok_or_else(|| unknown_layout("the container's configuration"))?;
    if (got.container_uid, got.container_gid) != known.user {
        return Err(unknown_layout("process.user"));
    }
    // SAFETY: `at` is crun's container, and only the child uses it.
    unsafe {
        (*at).container_uid = 0;
        (*at).container_gid = 0;
    }
    Ok(())
}

/// Limit in bytes, the kernel's for paths.
const LONGEST_PATH: usize = libc::PATH_MAX as usize;

fn path(at: *const c_char, what: &str) -> Result<PathBuf> {
    let bytes = peek_bytes(at, LONGEST_PATH).filter(|bytes| !bytes.is_empty());
    bytes.map(|bytes| OsString::from_vec(bytes).into()).ok_or_else(|| no_context(what))
}

fn no_context(what: &str) -> Error {
    Error::new("crun", format!("unknown layout of its structures: {what} cannot be read from the context")).hint(HINT)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::super::fixture::leak;
    use super::*;

    #[test]
    fn contexts_are_read_or_refused() {
        let (root, id, bundle) = (c"/run/crun".as_ptr(), c"abc".as_ptr(), c"/bundle".as_ptr());
        let read = |state_root, id, bundle| Context::read(&crun_context { state_root, id, bundle });
        let all = read(root, id, bundle).unwrap();
        assert_eq!((all.states.as_deref(), all.id.as_str()), (Some(Path::new("/run/crun")), "abc"));
        assert_eq!(all.bundle().unwrap(), Path::new("/bundle"));
        assert_eq!(read(ptr::null(), id, bundle).unwrap().states, None);
        assert!(read(root, id, c".".as_ptr()).unwrap().bundle().is_err());
        let wild = 8 as *const c_char;
        for (case, context) in [
            ("root", read(wild, id, bundle)),
            ("no id", read(root, ptr::null(), bundle)),
            ("id", read(root, wild, bundle)),
            ("empty id", read(root, c"".as_ptr(), bundle)),
            ("shifted", read(root, root, bundle)),
            ("no bundle", read(root, id, ptr::null())),
            ("bundle", read(root, id, wild)),
            ("nothing", Context::read(ptr::null())),
            ("nowhere", Context::read(wild.cast())),
        ] {
            let line = context.unwrap_err().to_string();
            assert!(line.starts_with("crun: "), "{case}: {line}");
        }
    }

    #[test]
    fn only_the_known_container_is_changed() {
        let (def, other) = (leak(crun_config::default()), leak(crun_config::default()));
        let users = [r#"{"user": {"uid": 1000, "gid": 7}}"#, r#"{"user": {"uid": 0}}"#, "{}"];
        for (user, want) in users.into_iter().zip([(1000, 7), (0, 0), (0, 0)]) {
            let known = Known::new(def, &serde_json::from_str(&format!(r#"{{"process": {user}}}"#)).unwrap());
            let given = |container_def, (uid, gid), known| {
                let mut is =
                    crun_container { container_def, host_uid: 1, host_gid: 2, container_uid: uid, container_gid: gid };
                // SAFETY: `is` is a container.
                let result = unsafe { become_root(&mut is, known) };
                assert_eq!((is.container_def, is.host_uid, is.host_gid), (container_def, 1, 2));
                (result.map_err(|e| e.to_string()), (is.container_uid, is.container_gid))
            };
            assert_eq!(given(def, want, Some(known)), (Ok(()), (0, 0)), "{user}");
            let unknown = |what| Err(unknown_layout(what).to_string());
            for wrong in [(want.0 + 1, want.1), (want.0, want.1 + 1), (want.1 + 1, want.0)] {
                assert_eq!(given(def, wrong, Some(known)), (unknown("process.user"), wrong), "{user}");
            }
            for (wrong, known) in [(other, Some(known)), (ptr::null_mut(), Some(known)), (def, None)] {
                assert_eq!(given(wrong, want, known), (unknown("the container's configuration"), want), "{user}");
            }
            for at in [0_usize, 8].map(|at| at as *mut crun_container) {
                // SAFETY: a wrong pointer is read through the kernel only.
                assert!(unsafe { become_root(at, Some(known)) }.is_err());
            }
        }
    }
}
