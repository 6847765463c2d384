//! Properties of the host system that a VM's container is built from.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// The library cache of glibc's loader; the container has the host's.
pub const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Refuses hosts whose programs would not find their libraries in the container.
///
/// # Errors
/// There is no such cache, as on hosts with another C library than glibc.
pub fn loader_cache(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    let why = "not there, and by it programs in the container find the host's libraries";
    Err(Error::new(path.display().to_string(), why).hint("run ldconfig; hosts without glibc do not do"))
}

/// Refuses hosts whose programs are not all below `/usr`: `name` is a directory in `/` such as `bin`, below `root`.
///
/// # Errors
/// It is a directory of its own.
pub fn merged_usr(root: &Path, name: &str) -> Result<()> {
    let path = root.join(name);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.is_symlink() => {
            Err(Error::new(path.display().to_string(), "not a link into /usr").hint("a merged /usr is needed"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_laid_out_in_another_way_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, at) = (dir.path().join("ld.so.cache"), dir.path().display());
        let error = loader_cache(&cache).unwrap_err().to_string();
        assert!(error.ends_with("(run ldconfig; hosts without glibc do not do)"), "{error}");
        fs::write(&cache, "x").unwrap();
        assert_eq!(loader_cache(&cache), Ok(()));

        assert_eq!(merged_usr(dir.path(), "bin"), Ok(()));
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        assert_eq!(merged_usr(dir.path(), "bin"), Ok(()));
        fs::create_dir(dir.path().join("lib")).unwrap();
        let error = merged_usr(dir.path(), "lib").unwrap_err().to_string();
        assert_eq!(error, format!("{at}/lib: not a link into /usr (a merged /usr is needed)"));
    }
}
