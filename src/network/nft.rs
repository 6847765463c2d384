//! Running nft: the one program that this part needs from the host.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Context, Error, Result};

/// Where distributions put it; `$PATH` is empty or not the user's here.
const PLACES: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];

/// Finds the host's nft.
pub(super) fn find() -> Result<&'static Path> {
    PLACES.iter().map(Path::new).find(|path| path.is_file()).ok_or_else(|| {
        Error::new("nft", format!("not found in {}", PLACES.join(", "))).hint("install the package nftables")
    })
}

/// Applies a script as one transaction.
pub(super) fn run(nft: &Path, script: &str) -> Result<()> {
    // A file and not a pipe: the caller may be crun, which a pipe without a reader would kill.
    let mut file = File::from(memfd_create(c"nft", MFdFlags::MFD_CLOEXEC).context("memory for nft's script")?);
    file.write_all(script.as_bytes()).context("memory for nft's script")?;
    std::io::Seek::rewind(&mut file).context("memory for nft's script")?;
    let output = Command::new(nft)
        .args(["-f", "-"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(file))
        .output()
        .context(nft.display())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why =
        said.lines().next().filter(|line| !line.trim().is_empty()).map_or(output.status.to_string(), str::to_owned);
    Err(Error::new(nft.display().to_string(), why).hint("the kernel needs nf_tables with nat, masquerade and fib"))
}
