//! crun's state of its containers.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Context, Result};

/// Directory of the state of the container `id`: below `states`, by default crun's own directory.
pub fn dir(states: Option<&Path>, id: &str) -> PathBuf {
    let states = states.map(Path::to_owned).unwrap_or_else(|| {
        let user = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        user.map_or_else(|| "/run/crun".into(), |dir| Path::new(&dir).join("crun"))
    });
    states.join(id)
}

/// The state in a container's directory; `None` if there is no such container.
///
/// # Errors
/// It cannot be read.
pub fn read(dir: &Path) -> Result<Option<Value>> {
    let path = dir.join("status");
    let text = match fs::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.context(path.display())?,
    };
    serde_json::from_slice(&text).context(path.display()).map(Some)
}
