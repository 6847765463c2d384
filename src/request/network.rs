//! Whose network namespace it is.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::engine::{self, Annotations};

/// Whose network namespace a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkOwner {
    /// The container's own network namespace, which ends with the container.
    Own,
    /// Another container's or the user's, at this path: anything left in it stays.
    Shared(PathBuf),
    /// A namespace over which no process in the container has power, usually the host's.
    Foreign,
}

/// Finds the owner. A namespace without a path is made with the container and ends with it, and so do those that
/// engines make in advance. Another path belongs to another process (`--network container:`) or the user. A user
/// namespace that is made with the container has no power over the network namespace.
pub(super) fn find(namespaces: &[LinuxNamespace], annotations: &Annotations) -> NetworkOwner {
    let of = |kind| namespaces.iter().find(|n| n.typ() == kind);
    let Some(network) = of(LinuxNamespaceType::Network) else { return NetworkOwner::Foreign };
    let Some(path) = network.path() else { return NetworkOwner::Own };
    if engine::is_own_netns(path) && !engine::in_pod(annotations) {
        return NetworkOwner::Own;
    }
    match of(LinuxNamespaceType::User).map(|user| user.path().is_some()) {
        Some(false) => NetworkOwner::Foreign,
        Some(true) | None => NetworkOwner::Shared(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::parse;

    #[test]
    fn whose_network_it_is() {
        let network = |path: &str| serde_json::json!([{"type": "network", "path": path}]);
        let none = serde_json::json!({});
        let pod = |key: &str| serde_json::json!({key: "f1aed84e4940"});
        let shared = |path: &str| NetworkOwner::Shared(path.into());
        let cni = "/run/netns/cni-7194fa77-3e12-0f65-8a1d-5a3c2f0e9b11".to_string();
        let new_user = serde_json::json!([{"type": "network", "path": "/proc/25284/ns/net"}, {"type": "user"}]);
        let pods_user = serde_json::json!([{"type": "network", "path": "/n"}, {"type": "user", "path": "/u"}]);
        for (namespaces, annotations, want) in [
            (serde_json::json!([{"type": "network"}]), &none, NetworkOwner::Own),
            (network("/run/netns/netns-7194fa77-3e12-0f65-8a1d-5a3c2f0e9b11"), &none, NetworkOwner::Own),
            (network("/run/user/1000/netns/netns-7194fa77-3e12-0f65-8a1d-5a3c2f0e9b11"), &none, NetworkOwner::Own),
            (network("/var/run/netns/cni-7194fa77-3e12-0f65-8a1d-5a3c2f0e9b11"), &none, NetworkOwner::Own),
            (serde_json::json!([{"type": "pid"}]), &none, NetworkOwner::Foreign),
            (network("/proc/25284/ns/net"), &none, shared("/proc/25284/ns/net")),
            (network("/run/netns/mine"), &none, shared("/run/netns/mine")),
            (network("/run/netns/netns-mine"), &none, shared("/run/netns/netns-mine")),
            (network("/var/run/docker/netns/default"), &none, shared("/var/run/docker/netns/default")),
            (network("/proc/25284/ns/net"), &pod("io.kubernetes.cri-o.SandboxID"), shared("/proc/25284/ns/net")),
            (network(&cni), &pod("io.kubernetes.cri.sandbox-id"), shared(&cni)),
            (new_user, &none, NetworkOwner::Foreign),
            (pods_user, &none, shared("/n")),
        ] {
            let request = parse(serde_json::json!({"linux": {"namespaces": namespaces}, "annotations": annotations}));
            assert_eq!(request.unwrap().network, want, "{namespaces} {annotations}");
        }
    }
}
