//! crun's structures: how they are laid out in the versions known, proved before anything is written.

mod alloc;
mod apply;
mod compare;
mod config;
pub mod context;
pub mod exec_supervisor;
#[cfg(test)]
mod facts;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod layout;
mod memory;
mod peek;
pub mod state;
pub mod sys;
#[cfg(test)]
mod tests;
pub mod update;
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

/// Proves that `def` is laid out as we think, has `prepare` make the container's VM, and writes the edits into `def`.
///
/// Until the last step, which cannot fail, nothing in `def` is changed; until the proof is there, `prepare` is not
/// called, so that with an unknown crun nothing comes into being.
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
    // SAFETY: the layout is proven, and crun waits for this call to return.
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
