//! Whether an image is still the one that it was.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::Source;
use crate::error::{Context, Result};

/// How much is read at each place, bytes.
const SAMPLE: u64 = 4 << 10;
/// In how many places: what builds images gives each another identity, and other tables, so that few tell two apart.
const SAMPLES: u64 = 16;
/// How much is read of the beginning besides, where headers and partition tables are, bytes.
const HEAD: u64 = 64 << 10;

/// By which a change of an image is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Length, bytes.
    len: u64,
    /// Time of the last change, seconds and nanoseconds.
    modified: (i64, i64),
    /// Of samples of the content: it goes through a commit, a registry and a build, which times may not.
    samples: String,
}

impl State {
    /// Looks at the image in `file`, called `name` in messages.
    pub fn of(name: &Path, file: &File) -> Result<Self> {
        let (metadata, source) = (file.metadata().context(name.display())?, Source::open(name, file)?);
        let (len, modified) = (source.len(), (metadata.mtime(), metadata.mtime_nsec()));
        Ok(Self { len, modified, samples: samples(&source)? })
    }

    /// Whether it is the same file as far as an archive's times tell.
    pub fn is_same_by_seconds(&self, other: &Self) -> bool {
        self.is_same_content(other) && self.modified.0 == other.modified.0
    }

    /// Whether the content is the same, for all that the samples tell.
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
