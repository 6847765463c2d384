//! The place for a container's writes: its own writable layer if it has one, else the bundle.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::error::{Error, Result};
use crate::host::rootfs::PRIVATE;
use crate::request::Request;

/// The directory for overlay and record in the container's own layer; `None` where the bundle is the place.
///
/// # Errors
/// The guest's disk would fill the host's `/run`.
pub fn layer(bundle: &Path, root: &Path, request: &Request) -> Result<Option<PathBuf>> {
    let facts = Facts {
        layer: request.engine.is_layer(bundle, root),
        read_only: request.root_readonly,
        in_memory: is_in_run(bundle),
        persistent: request.options.persistent,
    };
    match facts.decide() {
        Some(Place::Layer) => Ok(Some(root.join(PRIVATE))),
        Some(Place::Bundle) => Ok(None),
        None => {
            let why = "the guest's disk would be here, in the host's memory, and gone with the host's next boot";
            let hint = "--persistent has it write to the image itself; podman keeps its containers on disk without \
                        --transient-store";
            Err(Error::new(bundle.display().to_string(), why).hint(hint))
        }
    }
}

/// On which it depends.
#[derive(Debug, Clone, Copy)]
struct Facts {
    layer: bool,
    /// The container is not to write to it.
    read_only: bool,
    /// The bundle is on the file system that is the host's `/run`, or below that.
    in_memory: bool,
    /// The guest writes to the image itself.
    persistent: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Layer,
    Bundle,
}

impl Facts {
    /// A read-only container's layer stays unchanged if the bundle can take the guest's disk. Docker, containerd and
    /// CRI-O have their bundles in `/run`: with these the disk is in the layer all the same, because the layer is on
    /// disk, is counted by the engine, and is removed with the container.
    fn decide(self) -> Option<Place> {
        match (self.layer, self.in_memory && !self.persistent) {
            (true, in_memory) if in_memory || !self.read_only => Some(Place::Layer),
            (_, false) => Some(Place::Bundle),
            (_, true) => None,
        }
    }
}

/// Whether the bundle is on a tmpfs below `/run`. A tmpfs elsewhere was chosen for the engine's whole storage.
fn is_in_run(bundle: &Path) -> bool {
    let path = fs::canonicalize(bundle).unwrap_or_else(|_| bundle.to_owned());
    path.starts_with("/run") && statfs(bundle).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_the_bundle_or_neither() {
        use Place::{Bundle, Layer};
        let decide =
            |layer, read_only, in_memory, persistent| Facts { layer, read_only, in_memory, persistent }.decide();
        assert_eq!(decide(true, false, false, false), Some(Layer));
        assert_eq!(decide(true, false, true, false), Some(Layer));
        assert_eq!(decide(true, true, false, false), Some(Bundle), "podman run --read-only");
        assert_eq!(decide(true, true, true, false), Some(Layer), "docker run --read-only");
        assert_eq!(decide(false, false, false, false), Some(Bundle), "podman run --rootfs");
        for read_only in [false, true] {
            assert_eq!(decide(false, read_only, true, false), None, "podman --transient-store run --rootfs");
            assert_eq!(decide(false, read_only, true, true), Some(Bundle), "with --persistent");
        }
    }

    #[test]
    fn a_bundle_in_memory() {
        assert!(!is_in_run(Path::new("/var/tmp")) && !is_in_run(Path::new("/proc")));
        assert_eq!(is_in_run(Path::new("/var/run")), statfs("/run").unwrap().filesystem_type() == TMPFS_MAGIC);
    }
}
