//! The guest's memory after the start.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::private_dir::PrivateDir;
use super::{PRIVATE_DIR, skeleton};
use crate::edits::memory_limits::RequestedLimits;
use crate::error::{Context, Result};
use crate::handoff::paths;
use crate::plan::Plan;

/// File of the [`MemoryRecord`].
const MEMORY: &str = "memory.json";

/// What `update` must know about the memory at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// The guest's at the start, bytes.
    pub guest: u64,
    /// Bytes by which the container's memory limits were raised.
    pub raised: u64,
    /// The limits as the engine named them; later it may name others in the same place.
    pub named: RequestedLimits,
}

/// Leaves it for [`memory()`].
pub fn record(dir: &PrivateDir, plan: &Plan, config: &str) -> Result<()> {
    let named = RequestedLimits::of_config(config).context("config.json")?;
    let record = MemoryRecord { guest: plan.memory, raised: plan.memory_overhead, named };
    dir.write(MEMORY, 0o600, &serde_json::to_vec(&record).context(MEMORY)?)?;
    // A request from before this start no longer applies.
    dir.remove(&format!("{}{}", skeleton::ROOT, paths::MEMORY))
}

/// The record of the VM in `bundle`; `None` if there is no VM.
///
/// # Errors
/// What cannot be read.
pub fn memory(bundle: &Path) -> Result<Option<MemoryRecord>> {
    let path = bundle.join(PRIVATE_DIR).join(MEMORY);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).context(path.display()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context(path.display()),
    }
}

/// Asks the guest of the running VM in `bundle` to make do with so many bytes of memory.
///
/// # Errors
/// What cannot be written.
pub fn ask_of_guest(bundle: &Path, bytes: u64) -> Result<()> {
    let dir = PrivateDir::open(bundle.join(PRIVATE_DIR), None)?;
    dir.write(&format!("{}{}", skeleton::ROOT, paths::MEMORY), 0o644, bytes.to_string().as_bytes()).map(drop)
}
