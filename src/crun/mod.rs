//! The boundary to crun: its structs, verified and then edited.
//!
//! The code runs in crun's process, and in the child that becomes the container's process. crun is trusted, but the
//! layout of its structs is not: they are read through the kernel (`peek`) and compared with config.json (`verify`)
//! before the first write (`apply`). The image's part of config.json (arguments, environment, annotations) is hostile;
//! here it is only compared.

mod alloc;
mod apply;
mod compare;
mod config;
pub(crate) mod context;
pub(crate) mod exec_supervisor;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod fixture;
mod layout;
mod memory;
mod peek;
pub mod state;
pub(crate) mod sys;
#[cfg(test)]
mod tests;
pub(crate) mod update;
mod verify;

use std::path::Path;

use nix::sys::stat::{Mode, umask};

use self::compare::unknown_layout;
use self::config::Config;
use self::peek::peek;
use self::sys::crun_config;
use crate::edits::Edits;
use crate::error::Result;
use crate::request::Bundle;

/// Whether `def` contains only resources and is not a container's configuration: `crun update` calls handlers too.
pub fn is_update(def: *const crun_config) -> Result<bool> {
    let def = peek(def).ok_or_else(|| unknown_layout("the configuration"))?;
    Ok(def.process.is_null() && def.root.is_null() && def.mounts.is_null() && def.oci_version.is_null())
}

/// Verifies `def`, calls `prepare`, which makes the container's VM, and writes the edits into `def`.
///
/// `def` is not changed before the last step, which cannot fail. `prepare` is called only if `def` has a known layout,
/// so with an unknown crun nothing is made.
///
/// # Safety
/// `def` is the configuration that crun, of whatever version, hands to its handlers.
pub unsafe fn modify(
    def: *mut crun_config,
    bundle: &Path,
    id: &str,
    prepare: impl FnOnce(&Bundle, &str) -> Result<Edits>,
) -> Result<()> {
    let bundle = Bundle::read(bundle)?;
    let config = Config::parse(&bundle)?;
    let proven = verify::prove(def, &config).map_err(|at| unknown_layout(&at))?;
    context::remember(context::Known::new(def, &config));
    let edits = with_umask(|| prepare(&bundle, id))?;
    // SAFETY: `proven` comes from `def`, and crun waits for this call to return.
    unsafe { apply::apply(&proven, &edits) }
}

/// Runs `body` with the usual umask: crun (1.21) has cleared it before the call, and files made without an explicit
/// mode would be writable for everybody.
fn with_umask<T>(body: impl FnOnce() -> T) -> T {
    struct Restore(Mode);
    impl Drop for Restore {
        fn drop(&mut self) {
            umask(self.0);
        }
    }
    let _restore = Restore(umask(Mode::S_IWGRP | Mode::S_IWOTH));
    body()
}
