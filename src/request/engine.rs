//! Which engine it is, and what it says of the container.
//!
//! Annotations are not the engine's alone. A podman before 4.6 copies those of an image's manifest, and sets its own only
//! where there are none of the same name; so what an image could gain by is taken from annotations that it cannot have.

use std::collections::HashMap;

/// By which engines call themselves.
const MANAGER: &str = "io.container.manager";
/// podman calls itself so.
pub const PODMAN: &str = "libpod";
/// podman's own, which no image can bring to a podman. One that would take others from an image always sets some.
const PODMANS: &str = "io.podman.annotations.";
/// By which the engines of Kubernetes say that a container only holds the namespaces of a pod. podman's does not say so.
const CONTAINER_TYPE: &[&str] = &["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
/// Which pod a container is of: podman's and CRI-O's, containerd's.
pub const POD: &[&str] = &["io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"];

/// A container's annotations.
pub type Annotations = HashMap<String, String>;

/// What the engine is called.
pub(super) fn name(annotations: &Annotations) -> Option<String> {
    if annotations.keys().any(|key| key.starts_with(PODMANS)) {
        return Some(PODMAN.to_string());
    }
    annotations.get(MANAGER).cloned()
}

/// Whether an engine of Kubernetes says that the container only holds the namespaces of a pod.
pub fn is_sandbox(annotations: &Annotations) -> bool {
    let says_so = |key: &&str| annotations.get(*key).is_some_and(|kind| kind == "sandbox");
    name(annotations).as_deref() != Some(PODMAN) && CONTAINER_TYPE.iter().any(says_so)
}

/// Whether it is a container of a pod of Kubernetes'.
pub(super) fn in_kubernetes(annotations: &Annotations) -> bool {
    name(annotations).as_deref() != Some(PODMAN) && POD.iter().any(|key| annotations.contains_key(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> Annotations {
        list.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn no_image_makes_another_engine_of_podman() {
        let podmans = ("io.podman.annotations.autoremove", "FALSE");
        for (list, want) in [
            (&[][..], None),
            (&[(MANAGER, "libpod")], Some("libpod")),
            (&[(MANAGER, "libpod"), podmans], Some("libpod")),
            (&[(MANAGER, "cri-o"), podmans], Some("libpod")),
            (&[(MANAGER, "cri-o")], Some("cri-o")),
        ] {
            assert_eq!(name(&annotations(list)).as_deref(), want, "{list:?}");
        }
    }

    #[test]
    fn sandboxes_are_of_kubernetes_alone() {
        for key in CONTAINER_TYPE {
            for (more, want) in [
                (&[][..], true),
                (&[(MANAGER, "cri-o")], true),
                (&[(MANAGER, "libpod")], false),
                (&[(MANAGER, "cri-o"), ("io.podman.annotations.privileged", "FALSE")], false),
            ] {
                let list = |kind| annotations(&[&[(*key, kind)], more].concat());
                assert_eq!(is_sandbox(&list("sandbox")), want, "{key} {more:?}");
                assert!(!is_sandbox(&list("container")), "{key} {more:?}");
            }
        }
    }

    #[test]
    fn pods_of_podman_are_not_of_kubernetes() {
        for key in POD {
            assert!(in_kubernetes(&annotations(&[(key, "f1aed84e4940")])));
            assert!(!in_kubernetes(&annotations(&[(key, "f1aed84e4940"), (MANAGER, "libpod")])));
        }
        assert!(!in_kubernetes(&annotations(&[])));
    }
}
