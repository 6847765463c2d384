//! Disk images: header, first sectors, and the overlay that takes the writes.
//!
//! An image is hostile. It is judged here, in Rust and with every offset checked, before QEMU or one of QEMU's tools
//! opens it: those follow a backing file wherever its name leads.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use source::Source;

mod boot;
mod detect;
pub mod locks;
pub mod overlay;
mod qcow2;
mod source;
pub mod state;
#[cfg(test)]
mod tests;

pub use boot::bios_bootable;

/// Size of the unit in which disks are counted, in bytes.
pub const SECTOR: u64 = 512;
/// Largest virtual size that is believed, in bytes; QEMU's own bound on a device is 2^63 less a little.
const MAX_SIZE: u64 = 1 << 62;

/// The disk formats that a VM may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

impl Format {
    /// The name by which users, QEMU and libvirt call it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    /// Reads the value of `--format`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "qcow2" => Ok(Format::Qcow2),
            "raw" => Ok(Format::Raw),
            other => Err(Error::new(format!("disk format {other:?}"), "neither qcow2 nor raw").hint(detect::CONVERT)),
        }
    }
}

/// Properties of a disk image that are known before a VM gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Declared to QEMU from here on, never probed again.
    pub format: Format,
    /// Size that the guest sees, in bytes: a multiple of [`SECTOR`], never 0.
    pub virtual_size: u64,
}

/// Looks at the image in `file`, called `name` in messages; `declared` is the user's `--format`.
///
/// Regular files and block devices are taken. The file's position is of no account and may change.
///
/// # Errors
/// A format that is neither qcow2 nor raw, a file that is not of the declared format, and every qcow2 that names other
/// files (backing file, data file), is encrypted, marked corrupt, cut off, or of a kind that is not known here.
pub fn inspect(name: &Path, file: &File, declared: Option<Format>) -> Result<Disk> {
    let source = Source::open(name, file)?;
    let format = match declared {
        Some(format) => format,
        None => detect::format(&source)?,
    };
    let virtual_size = match format {
        Format::Raw => raw_size(&source)?,
        Format::Qcow2 => {
            let header = qcow2::Header::read(&source)?;
            header.refuse_backing(&source)?;
            qcow2::refuse_truncated(&header, &source)?;
            header.virtual_size()
        }
    };
    Ok(Disk { format, virtual_size })
}

/// QEMU counts a raw file in whole sectors and reads zeros beyond its end.
fn raw_size(source: &Source) -> Result<u64> {
    match source.len() {
        0..SECTOR => Err(source.error(format!("{} bytes: too short for a disk", source.len()))),
        len if len > MAX_SIZE => Err(source.error(format!("{len} bytes: too large for a disk"))),
        len => Ok(len.next_multiple_of(SECTOR)),
    }
}
