//! Storage of the engines: nothing there belongs to the user.

use std::ffi::OsStr;
use std::fs::{self, canonicalize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::Engine;

/// Default storage of the engines.
const SYSTEM: &[&str] = &[
    "/run/containerd",
    "/run/containers",
    "/run/crio",
    "/run/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/rancher",
];
/// The same for rootless engines, below the user's home.
const HOME: &[&str] = &[".local/share/containerd", ".local/share/containers", ".local/share/docker"];

/// The engines' storage directories that exist, and that of this container's own engine wherever it is. `home` is the
/// home of the engine's user.
pub fn places(bundle: &Path, rootfs: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let in_home = HOME.iter().filter_map(|name| Some(home?.join(name)));
    let system = SYSTEM.iter().map(PathBuf::from);
    let own = around_container(bundle, rootfs).into_iter().chain([bundle.to_owned()]);
    // A place that cannot be looked into has nothing to read either.
    system.chain(in_home).chain(own).filter_map(|path| canonicalize(path).ok()).collect()
}

/// podman's bundle is STORAGE/DRIVER-containers/ID/userdata, and Docker's root STORAGE/DRIVER/ID/merged.
fn around_container(bundle: &Path, rootfs: &Path) -> Option<PathBuf> {
    let place = [(bundle, "userdata"), (rootfs, "merged")].into_iter().find(|(path, name)| path.ends_with(name))?.0;
    place.ancestors().nth(3).filter(|storage| storage.parent().is_some()).map(Path::to_owned)
}

impl Engine {
    /// Whether writes to `root` are discarded with the container: it is a layer, or podman's `--rootfs DIR:O`, which
    /// lies below a directory of the container.
    pub fn is_ephemeral(self, bundle: &Path, root: &Path) -> bool {
        let id = bundle.parent().and_then(Path::file_name).filter(|_| self == Self::Podman);
        self.is_layer(bundle, root) || id.is_some_and(|id| root.components().any(|part| part.as_os_str() == id))
    }

    /// Whether `root` is a layer that the engine made for this container, not a directory that the user provided.
    pub fn is_layer(self, bundle: &Path, root: &Path) -> bool {
        match self {
            Self::Podman => is_podman_layer(bundle, root),
            // CRI-O does not accept a user's root; not all of its layers are overlayfs.
            Self::CriO => true,
            Self::Unnamed if is_docker_bundle(bundle) => true,
            Self::Unnamed => {
                statfs(root).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
                    || is_mounted_in(bundle, root)
            }
        }
    }
}

/// podman's bundle is STORAGE/DRIVER-containers/ID/userdata, a container's layer STORAGE/DRIVER/…. With
/// `--transient-store` the bundle is elsewhere, in memory, and only the layer's own path STORAGE/overlay/ID/merged can
/// be recognised.
fn is_podman_layer(bundle: &Path, root: &Path) -> bool {
    let is_id = |name: &OsStr| name.len() == 64 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    let mut parts = root.ancestors().filter_map(Path::file_name);
    let (last, id, driver) = (parts.next(), parts.next(), parts.next());
    let overlay = last == Some(OsStr::new("merged")) && id.is_some_and(is_id) && driver == Some(OsStr::new("overlay"));
    overlay || bundle.ancestors().nth(3).is_some_and(|storage| root.starts_with(storage))
}

/// Docker's bundles are …/moby/ID, by the name of its namespace in containerd.
fn is_docker_bundle(bundle: &Path) -> bool {
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

    #[test]
    fn storage_around_a_container() {
        let docker = Path::new("/data/docker/overlay2/ID/merged");
        for (bundle, rootfs, want) in [
            (
                "/var/lib/containers/storage/overlay-containers/ID/userdata",
                "/vms/x",
                Some("/var/lib/containers/storage"),
            ),
            ("/data/vfs-containers/ID/userdata", "/data/vfs/dir/ID", Some("/data")),
            (
                "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/ID",
                docker.to_str().unwrap(),
                Some("/data/docker"),
            ),
            ("/home/me/bundle", "/home/me/bundle/rootfs", None),
            // No place would be left to read from.
            ("/x/ID/userdata", "/", None),
        ] {
            let got = around_container(Path::new(bundle), Path::new(rootfs));
            assert_eq!(got.as_deref(), want.map(Path::new), "{bundle}");
        }
    }

    #[test]
    fn layers_by_engine() {
        let id = "0123456789abcdef".repeat(4);
        let is = |engine: Engine, bundle: &str, root: &str| {
            let at = |path: &str| PathBuf::from(path.replace("ID", &id));
            engine.is_layer(&at(bundle), &at(root))
        };
        let podman = "/var/lib/containers/storage/overlay-containers/ID/userdata";
        assert!(is(Engine::Podman, podman, "/var/lib/containers/storage/overlay/ID/merged"));
        assert!(is(Engine::Podman, podman, "/var/lib/containers/storage/vfs/dir/ID"));
        let transient = "/run/containers/storage/overlay-containers/ID/userdata";
        assert!(is(Engine::Podman, transient, "/var/lib/containers/storage/overlay/ID/merged"));
        for root in ["/srv/vm", "/srv/overlay/vm/merged", "/srv/ID/merged", "/srv/overlay/ID"] {
            assert!(!is(Engine::Podman, transient, root) && !is(Engine::Podman, podman, root), "{root}");
        }
        let docker = "/run/containerd/io.containerd.runtime.v2.task/moby/ID";
        assert!(is(Engine::Unnamed, docker, "/var/lib/docker/btrfs/subvolumes/ID"));
        assert!(is(Engine::CriO, "/run/containers/storage/overlay-containers/ID/userdata", "/var/lib/x/vfs/dir/ID"));
        assert!(!is(Engine::Unnamed, "/run/x", "/srv/vm"));
        // A mount of any kind in the bundle, and a directory there.
        assert!(is(Engine::Unnamed, "/", "/proc") && !is(Engine::Unnamed, "/usr", "/usr/bin"));
    }
}
