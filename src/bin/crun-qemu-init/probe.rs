//! What the host's QEMU can do, found out once, so that no container has to.

use std::fs;
use std::path::Path;

use crun_qemu::error::{Context, Result};

use crate::embedded;

/// Fills `DIR/cache/qemu/capabilities` for the default emulator of this architecture.
///
/// # Errors
/// When QEMU, or libvirt's driver for it, is missing or does not work.
pub fn run(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context(dir.display())?;
    let dir = dir.canonicalize().context(dir.display())?;
    embedded::quiet(&dir);
    embedded::prepare(&dir, None)?;
    let connection = embedded::connect(&dir)?;
    connection.domain_capabilities(None, Some(std::env::consts::ARCH), None, None, 0).map_err(embedded::error)?;
    Ok(())
}
