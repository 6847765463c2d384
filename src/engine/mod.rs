//! Everything that is known about the engines: podman, Docker, containerd, CRI-O, and Kubernetes above them.
//!
//! Facts only, used in crun's process and in the runtime executable. Annotations do not come from the engine alone: a
//! podman before 4.6 copies those of an image's manifest, and sets its own only if there are none of the same name. So
//! facts from which an image could gain are read from annotations that no image can set.

pub mod mounts;
pub mod storage;

use std::collections::HashMap;
use std::path::Path;

/// A container's annotations.
pub type Annotations = HashMap<String, String>;

/// The engine that made a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// podman, rootful or rootless.
    Podman,
    /// CRI-O.
    CriO,
    /// Docker, containerd or another that does not name itself.
    Unnamed,
}

/// Annotation in which engines name themselves.
const MANAGER: &str = "io.container.manager";
/// Prefix of podman's own annotations. No image can bring one to a podman, and a podman that copies an image's
/// annotations always sets some.
const PODMAN_PREFIX: &str = "io.podman.annotations.";
/// Annotations in which containerd and CRI-O call a container the one that only holds a pod's namespaces.
const CONTAINER_TYPE: &[&str] = &["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
/// Annotations that name a container's pod: of podman and CRI-O, of containerd.
const POD: &[&str] = &["io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"];
/// podman's annotation for `--privileged`, for which it writes no device rules.
const PRIVILEGED: &str = "io.podman.annotations.privileged";
/// podman's annotation for the stop signal, a number.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
/// crun's annotation for `--group-add keep-groups`, which podman sets.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// Init programs of podman 4, podman 5 and Docker, each the first argument with `--init`.
const INITS: &[&str] = &["/run/podman-init", "/dev/init", "/sbin/docker-init"];
/// Prefixes of the network namespaces that engines make for one container; a UUID follows.
const OWN_NETNS: &[&str] = &["netns-", "cni-"];
/// Program of podman's pause container.
pub const PAUSE_PROGRAM: &str = "/catatonit";
/// Host paths from which podman takes that program.
pub const PAUSE_ORIGINALS: &[&str] =
    &["/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit", "/usr/bin/catatonit"];
/// Empty files that Docker leaves in the root of its containers.
const LEFTOVER_FILES: &[&[u8]] = &[b".dockerenv", b".dockerinit"];

impl Engine {
    /// The engine that set these annotations.
    pub fn of(annotations: &Annotations) -> Self {
        if annotations.keys().any(|key| key.starts_with(PODMAN_PREFIX)) {
            return Self::Podman;
        }
        match annotations.get(MANAGER).map(String::as_str) {
            Some("libpod") => Self::Podman,
            Some("cri-o") => Self::CriO,
            _ => Self::Unnamed,
        }
    }
}

/// Whether the container only holds the namespaces of a Kubernetes pod. podman does not mark its own this way.
pub fn is_pod_sandbox(annotations: &Annotations) -> bool {
    let is_sandbox = |key: &&str| annotations.get(*key).is_some_and(|kind| kind == "sandbox");
    Engine::of(annotations) != Engine::Podman && CONTAINER_TYPE.iter().any(is_sandbox)
}

/// Whether the container belongs to a pod, podman's or Kubernetes'.
pub fn in_pod(annotations: &Annotations) -> bool {
    POD.iter().any(|key| annotations.contains_key(*key))
}

/// Whether the container belongs to a Kubernetes pod.
pub fn in_kubernetes(annotations: &Annotations) -> bool {
    Engine::of(annotations) != Engine::Podman && in_pod(annotations)
}

/// Whether podman made the container with `--privileged`.
pub fn is_privileged(annotations: &Annotations) -> bool {
    annotations.get(PRIVILEGED).is_some_and(|value| value == "TRUE")
}

/// The stop signal that podman passes on.
pub fn stop_signal(annotations: &Annotations) -> Option<i32> {
    annotations.get(STOP_SIGNAL)?.parse().ok()
}

/// Whether the container's processes keep the supplementary groups of the engine's user.
pub fn keeps_groups(annotations: &Annotations) -> bool {
    annotations.get(KEEP_GROUPS).is_some_and(|value| value == "1")
}

/// Whether `path` is an engine's init program.
pub fn is_init(path: &str) -> bool {
    INITS.contains(&path)
}

/// Whether an engine made the network namespace at `path` for one container alone, unless that is a pod's.
pub fn is_own_netns(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_uuid = |rest: &str| rest.len() == 36 && rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    OWN_NETNS.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(is_uuid))
}

/// Whether an empty file of this name in the container's root is an engine's.
pub fn is_leftover(name: &[u8]) -> bool {
    LEFTOVER_FILES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> Annotations {
        list.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn no_image_hides_podman() {
        let podmans = ("io.podman.annotations.autoremove", "FALSE");
        for (list, want) in [
            (&[][..], Engine::Unnamed),
            (&[(MANAGER, "libpod")], Engine::Podman),
            (&[(MANAGER, "libpod"), podmans], Engine::Podman),
            (&[(MANAGER, "cri-o"), podmans], Engine::Podman),
            (&[(MANAGER, "cri-o")], Engine::CriO),
            (&[(MANAGER, "x")], Engine::Unnamed),
        ] {
            assert_eq!(Engine::of(&annotations(list)), want, "{list:?}");
        }
    }

    #[test]
    fn only_kubernetes_has_pod_sandboxes() {
        for key in CONTAINER_TYPE {
            for (more, want) in [
                (&[][..], true),
                (&[(MANAGER, "cri-o")], true),
                (&[(MANAGER, "libpod")], false),
                (&[(MANAGER, "cri-o"), ("io.podman.annotations.privileged", "FALSE")], false),
            ] {
                let list = |kind| annotations(&[&[(*key, kind)], more].concat());
                assert_eq!(is_pod_sandbox(&list("sandbox")), want, "{key} {more:?}");
                assert!(!is_pod_sandbox(&list("container")), "{key} {more:?}");
            }
        }
    }

    #[test]
    fn podman_pods_are_not_in_kubernetes() {
        for key in POD {
            assert!(in_kubernetes(&annotations(&[(key, "f1aed84e4940")])));
            assert!(!in_kubernetes(&annotations(&[(key, "f1aed84e4940"), (MANAGER, "libpod")])));
        }
        assert!(!in_kubernetes(&annotations(&[])));
    }
}
