//! Where a container's writes go: its own writable layer where it has one, else the bundle.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use crate::error::{Error, Result};
use crate::host::rootfs::PRIVATE;
use crate::request::Request;

/// The directory for overlay and record in the container's own layer; `None` where the bundle is the place.
///
/// # Errors
/// The guest's disk would fill the host's `/run`.
pub fn layer(bundle: &Path, root: &Path, request: &Request) -> Result<Option<PathBuf>> {
    let facts = Facts {
        layer: is_layer(bundle, root, request),
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
    /// A read-only container's layer stays as it is where the bundle can take the guest's disk. Docker, containerd and CRI-O
    /// have theirs in `/run`: there the layer is the place all the same, since it is on disk, the engine counts it, and it
    /// goes with the container.
    fn decide(self) -> Option<Place> {
        match (self.layer, self.in_memory && !self.persistent) {
            (true, in_memory) if in_memory || !self.read_only => Some(Place::Layer),
            (_, false) => Some(Place::Bundle),
            (_, true) => None,
        }
    }
}

/// Whether it is on a tmpfs below `/run`. One elsewhere was somebody's choice for all of the storage.
fn is_in_run(bundle: &Path) -> bool {
    let path = fs::canonicalize(bundle).unwrap_or_else(|_| bundle.to_owned());
    path.starts_with("/run") && statfs(bundle).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}

/// Whether what is written to `root` ends with the container: it is a layer, or podman's `--rootfs DIR:O`, which is below a
/// directory of the container's own.
pub fn ends_with_container(bundle: &Path, root: &Path, request: &Request) -> bool {
    let id = bundle.parent().and_then(Path::file_name).filter(|_| request.engine.as_deref() == Some("libpod"));
    is_layer(bundle, root, request) || id.is_some_and(|id| root.components().any(|part| part.as_os_str() == id))
}

/// Whether `root` is a layer that the engine made for this container, rather than a directory of the user's.
fn is_layer(bundle: &Path, root: &Path, request: &Request) -> bool {
    match request.engine.as_deref() {
        Some("libpod") => is_podmans(bundle, root),
        // Nobody gives these a root of their own; not all their layers are overlayfs.
        Some("cri-o") => true,
        _ if is_dockers(bundle) => true,
        _ => statfs(root).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC) || is_mounted_in(bundle, root),
    }
}

/// podman's bundle is STORAGE/DRIVER-containers/ID/userdata, a container's layer STORAGE/DRIVER/…. With `--transient-store`
/// the bundle is elsewhere, in memory, and what is left to tell by is the layer's own STORAGE/overlay/ID/merged.
fn is_podmans(bundle: &Path, root: &Path) -> bool {
    let is_id = |name: &OsStr| name.len() == 64 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    let mut parts = root.ancestors().filter_map(Path::file_name);
    let (last, id, driver) = (parts.next(), parts.next(), parts.next());
    let overlay = last == Some(OsStr::new("merged")) && id.is_some_and(is_id) && driver == Some(OsStr::new("overlay"));
    overlay || bundle.ancestors().nth(3).is_some_and(|storage| root.starts_with(storage))
}

/// Docker's bundles are …/moby/ID, by the name of its namespace in containerd.
fn is_dockers(bundle: &Path) -> bool {
    bundle.parent().and_then(Path::file_name) == Some(OsStr::new("moby"))
}

/// containerd mounts the snapshot in the bundle, whatever file system that is.
fn is_mounted_in(bundle: &Path, root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    root.starts_with(bundle) && device(root) != device(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::request;

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
    fn whose_the_root_is() {
        let id = "0123456789abcdef".repeat(4);
        let is = |engine: Option<&str>, bundle: &str, root: &str| {
            let mut request = request();
            request.engine = engine.map(str::to_string);
            let at = |path: &str| PathBuf::from(path.replace("ID", &id));
            is_layer(&at(bundle), &at(root), &request)
        };
        let podman = "/var/lib/containers/storage/overlay-containers/ID/userdata";
        assert!(is(Some("libpod"), podman, "/var/lib/containers/storage/overlay/ID/merged"));
        assert!(is(Some("libpod"), podman, "/var/lib/containers/storage/vfs/dir/ID"));
        let transient = "/run/containers/storage/overlay-containers/ID/userdata";
        assert!(is(Some("libpod"), transient, "/var/lib/containers/storage/overlay/ID/merged"));
        for root in ["/srv/vm", "/srv/overlay/vm/merged", "/srv/ID/merged", "/srv/overlay/ID"] {
            assert!(!is(Some("libpod"), transient, root) && !is(Some("libpod"), podman, root), "{root}");
        }
        let docker = "/run/containerd/io.containerd.runtime.v2.task/moby/ID";
        assert!(is(None, docker, "/var/lib/docker/btrfs/subvolumes/ID"));
        assert!(is(Some("cri-o"), "/run/containers/storage/overlay-containers/ID/userdata", "/var/lib/x/vfs/dir/ID"));
        assert!(!is(None, "/run/x", "/srv/vm"));
        // A mount of any kind in the bundle, and a directory there.
        assert!(is(None, "/", "/proc") && !is(None, "/usr", "/usr/bin"));
    }

    #[test]
    fn a_bundle_in_memory() {
        assert!(!is_in_run(Path::new("/var/tmp")) && !is_in_run(Path::new("/proc")));
        assert_eq!(is_in_run(Path::new("/var/run")), statfs("/run").unwrap().filesystem_type() == TMPFS_MAGIC);
    }
}
