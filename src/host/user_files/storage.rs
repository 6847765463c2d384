//! Where engines keep what images and containers wrote: nothing there is the user's.

use std::fs::{canonicalize, read_link};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::host::policy;

/// The engines' own places, unless they are told others.
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
/// Those of rootless engines, in the user's home.
const HOME: &[&str] = &[".local/share/containerd", ".local/share/containers", ".local/share/docker"];

/// All that exist here, and that of this container's own engine wherever it is.
pub fn of_engines(bundle: &Path, rootfs: &Path) -> Vec<PathBuf> {
    let home = policy::home();
    let in_home = HOME.iter().filter_map(|name| Some(home.as_ref()?.join(name)));
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

/// The one of `storage` in which the open file or directory is.
pub fn around(fd: BorrowedFd, storage: &[PathBuf]) -> std::io::Result<Option<PathBuf>> {
    let path = read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(storage.iter().find(|place| path.starts_with(place)).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_engines() {
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
    fn what_is_open_is_judged_by_where_it_really_is() {
        let dir = tempfile::tempdir().unwrap();
        let (storage, outside) = (dir.path().join("storage"), dir.path().join("storage-not"));
        for place in [&storage, &outside] {
            std::fs::create_dir_all(place.join("x")).unwrap();
        }
        std::os::unix::fs::symlink(storage.join("x"), outside.join("link")).unwrap();
        let storage = vec![canonicalize(&storage).unwrap()];
        for (path, inside) in [("storage/x", true), ("storage-not/x", false), ("storage-not/link", true)] {
            let file = std::fs::File::open(dir.path().join(path)).unwrap();
            use std::os::fd::AsFd;
            assert_eq!(around(file.as_fd(), &storage).unwrap().is_some(), inside, "{path}");
        }
    }
}
