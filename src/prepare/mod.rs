//! From a bundle to the container's VM: gather (reads only), plan (pure), make (files on disk, undone on failure), and
//! the edits to the configuration.
//!
//! Runs on the host's side, in crun's process or the runtime executable, and once in the container's network namespace
//! ([`network()`]). The image, the options and the user's files are hostile.

mod blockdevs;
mod disk;
mod first_boot;
mod gather;
mod label;
mod make;
mod memory;
mod network;
mod nvram;
mod private_dir;
pub mod qemu_caps_cache;
pub mod skeleton;
mod storage;
mod user_network;
mod workdir;

use std::path::{Path, PathBuf};

use crate::edits::Edits;
use crate::error::Result;
use crate::handoff::timings::StartTimings;
use crate::plan::plan;
use crate::request::Bundle;
pub use memory::{MemoryRecord, ask_of_guest, memory};
pub use network::{failure as network_failure, network, network_or_note};
use private_dir::PrivateDir;

/// Name of the private directory in the bundle.
const PRIVATE_DIR: &str = "crun-qemu";

/// Prepares the VM of the container `id` in `bundle` and returns the edits to its configuration. `init` is the
/// supervisor's executable.
///
/// # Errors
/// Whatever can be known before the VM starts. A failure leaves nothing behind that was not there before.
pub fn create(bundle: &Bundle, id: &str, init: &Path) -> Result<Edits> {
    let mut timings = StartTimings::default();
    StartTimings::stamp(&mut timings.create);
    let gathered = gather::gather(bundle, id, init)?;
    let plan = plan(id, &gathered.request, &gathered.host, gathered.image_facts, &gathered.sources)?;
    make::make(bundle, id, gathered, plan, timings)
}

/// Path of the supervisor where `make install` puts it.
pub fn installed_init() -> PathBuf {
    Path::new(option_env!("CRUN_QEMU_LIBEXEC").unwrap_or("/usr/local/libexec/crun-qemu")).join("crun-qemu-init")
}

/// Writes the edited configuration into the private directory of `bundle`; the engine's own stays as it is.
pub fn write_config(bundle: &Path, config: &[u8]) -> Result<PathBuf> {
    PrivateDir::open(bundle.join(PRIVATE_DIR), None)?.write("config.json", 0o600, config)
}
