//! A bundle with its configuration, which is read once: what is proven and what is planned come from the same text.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// An OCI bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory.
    pub path: PathBuf,
    /// Text of its `config.json`.
    pub config: String,
}

impl Bundle {
    /// Reads the configuration.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bundle = Self { path: path.to_owned(), config: String::new() };
        let file = bundle.config_path();
        bundle.config = fs::read_to_string(&file).context(file.display())?;
        Ok(bundle)
    }

    /// Path of the configuration.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.json")
    }
}
