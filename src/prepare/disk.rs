//! The disk that the guest boots from: the image, and the overlay that takes the writes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::private_dir::PrivateDir;
use crate::error::{Context, Error, Result};
use crate::image::{self, Format, locks, overlay};
use crate::paths;
use crate::plan::{BootDisk, ImageFacts};
use crate::rootfs::Root;

/// Which file of the root is the VM image.
const RECORD: &str = "record.json";
/// The overlay.
const OVERLAY: &str = "overlay.qcow2";

/// The choice of an image, made at the first start and kept: a file that is added later changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Absolute path in the container's root.
    pub image: PathBuf,
    /// Its format; what a guest writes to a raw disk must not change it.
    pub format: Format,
    /// How the image was when the overlay over it was made, where others can write to it.
    #[serde(default)]
    state: Option<State>,
}

/// By which a change of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Length, bytes.
    len: u64,
    /// Time of the last change, seconds and nanoseconds.
    modified: (i64, i64),
}

impl State {
    fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata().context("the VM image")?;
        Ok(Self { len: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

/// The image that is recorded, else the only one there is.
pub fn choose(root: &Root, storage: &PrivateDir, declared: Option<Format>) -> Result<(Record, File)> {
    let Some(text) = storage.read(RECORD)? else {
        let found = root.find_image()?;
        let format = image::inspect(&found.path, &found.file, declared)?.format;
        return Ok((Record { image: found.path, format, state: None }, found.file));
    };
    let record: Record = serde_json::from_slice(&text).context(storage.join(RECORD).display())?;
    if declared.is_some_and(|format| format != record.format) {
        let why = format!("the container's disk was made on a {} image", record.format);
        return Err(Error::new("--format", why).hint("make a new container"));
    }
    let file = root.open_recorded(&record.image)?;
    if record.state.is_some_and(|state| State::of(&file) != Ok(state)) {
        let why = "the image has been written to since the container's disk was made on it";
        return Err(Error::new(record.image.display().to_string(), why).hint("make a new container"));
    }
    Ok((record, file))
}

/// Makes what the plan says unless the container has it already, and tells where the overlay is, if there is one. `file` is
/// the image that is recorded.
///
/// # Errors
/// The image has to be written to and cannot be, or another VM writes to it.
pub fn keep(
    root: &Root,
    dir: &PrivateDir,
    (mut record, file): (Record, &File),
    disk: BootDisk,
    image: ImageFacts,
) -> Result<Option<PathBuf>> {
    let overlay = match disk {
        BootDisk::Image(_) => {
            take_image(root, &record, file)?;
            None
        }
        BootDisk::Overlay { size, .. } => {
            refuse_if(locks::is_written(file)?, &record.image, "a VM with --persistent writes to it")?;
            let (overlay, fresh) = keep_overlay(dir, image, size)?;
            // The engine's layers change for nobody, and what is committed finds them in other places.
            if fresh && !image.passing {
                record.state = Some(State::of(file)?);
            }
            Some(overlay)
        }
    };
    dir.write(RECORD, 0o600, &serde_json::to_vec(&record).context(RECORD)?)?;
    Ok(overlay)
}

fn take_image(root: &Root, record: &Record, file: &File) -> Result<()> {
    let path = &record.image;
    root.open_writable(path).map_err(|e| Error::new(format!("--persistent: {}", path.display()), e.why()))?;
    refuse_if(locks::is_used(file)?, path, "another VM uses it, and with --persistent it has to be the only one")
}

fn refuse_if(used: bool, image: &Path, why: &str) -> Result<()> {
    if used { Err(Error::new(image.display().to_string(), why).hint("stop that one first")) } else { Ok(()) }
}

/// The overlay, and whether it was made just now.
fn keep_overlay(dir: &PrivateDir, image: ImageFacts, size: Option<u64>) -> Result<(PathBuf, bool)> {
    let path = dir.join(OVERLAY);
    let fresh = match dir.open_file(OVERLAY, OpenOptions::new().read(true).write(size.is_some()))? {
        // An image may bring a file of this name: one that was committed does.
        Some(file) => {
            overlay::inspect(&path, &file, paths::IMAGE, image.format)?;
            size.map_or(Ok(()), |size| overlay::grow(&path, &file, size))?;
            false
        }
        None => {
            overlay::create(&path, paths::IMAGE, image.format, size.unwrap_or(image.virtual_size))?;
            true
        }
    };
    dir.give(&path)?;
    Ok((path, fresh))
}
