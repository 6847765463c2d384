//! Fingerprint that shows whether an image has changed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::Source;
use crate::error::{Context, Result};

/// Bytes read at each place.
const SAMPLE: u64 = 4 << 10;
/// Number of places. Few are enough: whatever builds images gives each its own identifiers and tables.
const SAMPLES: u64 = 16;
/// Bytes read from the beginning in addition, where headers and partition tables are.
const HEAD: u64 = 64 << 10;

/// Fingerprint of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Length, bytes.
    len: u64,
    /// Time of the last change, seconds and nanoseconds.
    modified: (i64, i64),
    /// Digest of samples of the content. Unlike times, it survives a commit, a registry and a build.
    samples: String,
}

impl State {
    /// Looks at the image in `file`, called `name` in messages.
    pub fn of(name: &Path, file: &File) -> Result<Self> {
        let (metadata, source) = (file.metadata().context(name.display())?, Source::open(name, file)?);
        let (len, modified) = (source.len(), (metadata.mtime(), metadata.mtime_nsec()));
        Ok(Self { len, modified, samples: samples(&source)? })
    }

    /// Whether it is the same file, as far as an archive's times can tell.
    pub fn is_same_by_seconds(&self, other: &Self) -> bool {
        self.is_same_content(other) && self.modified.0 == other.modified.0
    }

    /// Whether the content is the same, as far as the samples can tell.
    pub fn is_same_content(&self, other: &Self) -> bool {
        (self.len, &self.samples) == (other.len, &other.samples)
    }
}

fn samples(source: &Source) -> Result<String> {
    let mut digest = Sha256::new();
    let mut take = |offset, len| -> Result<()> {
        let mut bytes = vec![0; len as usize];
        source.read_padded(offset, &mut bytes)?;
        digest.update(&bytes);
        Ok(())
    };
    take(0, HEAD)?;
    let last = source.len().saturating_sub(SAMPLE);
    (1..=SAMPLES).try_for_each(|n| take((u128::from(last) * u128::from(n) / u128::from(SAMPLES)) as u64, SAMPLE))?;
    let mut hex = String::new();
    digest.finalize().iter().for_each(|byte| hex.push_str(&format!("{byte:02x}")));
    Ok(hex)
}
