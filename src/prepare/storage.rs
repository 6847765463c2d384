//! Where a container's writes go: its own writable layer where it has one, else the bundle.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use crate::request::Request;
use crate::rootfs::PRIVATE;

/// The directory for overlay and record in the container's own layer; `None` where the bundle is the place.
pub fn layer(bundle: &Path, root: &Path, request: &Request) -> Option<PathBuf> {
    (!request.root_readonly && is_layer(bundle, root, request)).then(|| root.join(PRIVATE))
}

/// Whether what is written to `root` ends with the container: it is a layer, or podman's `--rootfs DIR:O`, which is below a
/// directory of the container's own.
pub fn ends_with_container(bundle: &Path, root: &Path, request: &Request) -> bool {
    let id = bundle.parent().and_then(Path::file_name).filter(|_| request.engine.as_deref() == Some("libpod"));
    is_layer(bundle, root, request) || id.is_some_and(|id| root.components().any(|part| part.as_os_str() == id))
}

/// Whether `root` is a layer that the engine made for this container, rather than a directory of the user's.
fn is_layer(bundle: &Path, root: &Path, request: &Request) -> bool {
    if request.engine.as_deref() == Some("libpod") {
        // podman's bundle is STORAGE/DRIVER-containers/ID/userdata, a container's layer STORAGE/DRIVER/….
        return bundle.ancestors().nth(3).is_some_and(|storage| root.starts_with(storage));
    }
    statfs(root).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}
