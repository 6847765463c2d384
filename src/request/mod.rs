//! The request: the OCI configuration and the options in it, read and checked, with nothing decided. Pure. The text is
//! partly the image's and the pod author's, so it is hostile.

pub mod blockdev;
mod bundle;
mod network;
pub mod options;
mod parse;
pub mod ports;
mod values;

use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::runtime::{
    Capability, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxResources,
    Mount, PosixRlimitType, Spec,
};

use crate::engine::{self, Engine};
use crate::error::{Context, Error, Result};
use crate::host::idmap::{IdMap, Row};
use crate::host::mount_sources::Node;
pub use bundle::Bundle;
pub use network::NetworkOwner;
use options::Options;

/// Everything that bears on the VM.
#[derive(Debug, Clone)]
pub struct Request {
    /// Options and annotations.
    pub options: Options,
    /// The container's root as the engine names it; relative to the bundle where it is relative.
    pub root: PathBuf,
    /// `--read-only`.
    pub root_readonly: bool,
    /// `--hostname`, else what the engine made up.
    pub hostname: Option<String>,
    /// The engine's and the user's mounts, in order.
    pub mounts: Vec<Mount>,
    /// `--device`.
    pub devices: Vec<Device>,
    /// The container may use all the host's devices and has them: `--privileged`.
    pub all_devices: bool,
    /// `--memory`, bytes.
    pub memory: Option<u64>,
    /// `--ulimit memlock`, the hard limit in bytes; `u64::MAX` is none.
    pub memlock: Option<u64>,
    /// `--cpus`: CPU time per wall-clock time.
    pub cpus: Option<f64>,
    /// `--cpuset-cpus`.
    pub cpuset: Option<String>,
    /// The host's user that is root in the container, where it has a user namespace.
    pub mapped_root: Option<(u32, u32)>,
    /// The container's processes keep the supplementary groups of the engine's user: `--group-add keep-groups`.
    pub keeps_groups: bool,
    /// SELinux label of the container's files.
    pub label: Option<String>,
    /// The users and groups that the container has, where it has a user namespace.
    pub id_maps: Option<(IdMap, IdMap)>,
    /// Whose network namespace the container has.
    pub network: NetworkOwner,
    /// Whether the container belongs to a pod.
    pub in_pod: bool,
    /// Whether the container has a PID namespace other than the host's.
    pub own_pids: bool,
    /// Capabilities of root in the container; `None` if the configuration does not list them.
    pub capabilities: Option<HashSet<Capability>>,
    /// The environment configured for the container, the image's own included.
    pub env: Vec<String>,
    /// The configured working directory, usually the image's.
    pub cwd: PathBuf,
    /// The engine that made the container.
    pub engine: Engine,
    /// The signal that asks the container to end, where the configuration names one: the image's or `--stop-signal`.
    pub stop_signal: Option<i32>,
    /// The container belongs to a Kubernetes pod, and its limits are the pod's.
    pub in_kubernetes: bool,
    /// The container's cgroup, as the engine names it.
    pub cgroup: Option<PathBuf>,
}

/// A device that the engine has made in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub path: String,
    /// A block device, else a character device or a fifo.
    pub is_block: bool,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// The container may write to it.
    pub writable: bool,
    /// Owner and mode of the node.
    pub node: Node,
}

impl Request {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// The text is not an OCI configuration of a Linux container; see also [`Options::parse`].
    pub fn parse(config: &str) -> Result<Self> {
        let spec: Spec = serde_json::from_str(config).context("config.json")?;
        let root = spec.root().as_ref().ok_or_else(|| Error::new("config.json", "it has no root"))?;
        let process = spec.process().as_ref().ok_or_else(|| Error::new("config.json", "it has no process"))?;
        let linux = spec.linux().as_ref().ok_or_else(|| Error::new("config.json", "not a Linux container"))?;
        let annotations = spec.annotations().clone().unwrap_or_default();
        let args = process.args().clone().unwrap_or_default();
        let resources = linux.resources().as_ref();
        let cpu = resources.and_then(|r| r.cpu().as_ref());
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let cpus = cpu.and_then(|c| Some((positive(c.quota()?)? as f64, c.period().filter(|p| *p > 0)? as f64)));
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        Ok(Self {
            options: Options::parse(without_init(&args), annotations.iter().map(|(k, v)| (k.as_str(), v.as_str())))?,
            root: root.path().clone(),
            root_readonly: root.readonly().unwrap_or(false),
            hostname: spec.hostname().clone(),
            mounts: spec.mounts().clone().unwrap_or_default(),
            devices: linux.devices().iter().flatten().map(|d| device(d, rules)).collect(),
            all_devices: rules.iter().any(|r| r.allow() && matches_all(r)) || engine::is_privileged(&annotations),
            memory: resources.and_then(memory_limit),
            memlock: process
                .rlimits()
                .iter()
                .flatten()
                .find(|r| r.typ() == PosixRlimitType::RlimitMemlock)
                .map(|r| r.hard()),
            cpus: cpus.map(|(quota, period)| quota / period),
            cpuset: cpu.and_then(|c| c.cpus().clone()),
            mapped_root: mapped_root(linux),
            keeps_groups: engine::keeps_groups(&annotations),
            label: linux.mount_label().clone().filter(|label| !label.is_empty()),
            id_maps: linux
                .uid_mappings()
                .as_ref()
                .zip(linux.gid_mappings().as_ref())
                .map(|(u, g)| (id_map(u), id_map(g))),
            network: network::find(&namespaces, &annotations),
            in_pod: engine::in_pod(&annotations),
            own_pids: namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Pid),
            capabilities: process.capabilities().as_ref().map(|c| c.bounding().clone().unwrap_or_default()),
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            stop_signal: engine::stop_signal(&annotations),
            engine: Engine::of(&annotations),
            in_kubernetes: engine::in_kubernetes(&annotations),
            cgroup: linux.cgroups_path().clone(),
        })
    }
}

fn device(device: &LinuxDevice, rules: &[LinuxDeviceCgroup]) -> Device {
    let (major, minor) = (device.major(), device.minor());
    let kind = device.typ();
    let of_it = |rule: &&LinuxDeviceCgroup| rule.major() == Some(major) && rule.minor() == Some(minor);
    let rule = rules.iter().rfind(|rule| rule.allow() && rule.typ() == Some(kind) && of_it(rule));
    let writable = rule.is_none_or(|rule| rule.access().as_ref().is_none_or(|access| access.contains('w')));
    let path = device.path().to_string_lossy().into_owned();
    // crun's defaults, where the engine does not say.
    let mode = device.file_mode().map_or(0o666, |mode| mode & 0o777);
    let node = Node { mode, gid: device.gid().unwrap_or(0) };
    Device { path, is_block: kind == LinuxDeviceType::B, major, minor, writable, node }
}

fn matches_all(rule: &LinuxDeviceCgroup) -> bool {
    matches!(rule.typ(), None | Some(LinuxDeviceType::A))
        && rule.major().is_none_or(|n| n < 0)
        && rule.minor().is_none_or(|n| n < 0)
}

/// crun writes the map of cgroup v2's own files last.
fn memory_limit(resources: &LinuxResources) -> Option<u64> {
    let own = resources.unified().as_ref().and_then(|files| files.get("memory.max")?.trim().parse().ok());
    let limit = own.or_else(|| u64::try_from(resources.memory().as_ref()?.limit()?).ok());
    limit.filter(|limit| *limit > 0)
}

/// The VM's supervisor is an init already: the engine's (`--init`) is left out with its separator.
fn without_init(args: &[String]) -> &[String] {
    match args {
        [init, separator, rest @ ..] if engine::is_init(init) && separator == "--" => rest,
        _ => args,
    }
}

fn id_map(mappings: &[LinuxIdMapping]) -> IdMap {
    let row = |m: &LinuxIdMapping| Row { inside: m.container_id(), outside: m.host_id(), length: m.size() };
    IdMap(mappings.iter().map(row).collect())
}

fn mapped_root(linux: &oci_spec::runtime::Linux) -> Option<(u32, u32)> {
    let host_id = |mappings: &Option<Vec<LinuxIdMapping>>| {
        mappings.as_ref()?.iter().find(|m| m.container_id() == 0).map(|m| m.host_id())
    };
    Some((host_id(linux.uid_mappings())?, host_id(linux.gid_mappings())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(patch: serde_json::Value) -> Result<Request> {
        let mut config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": [""], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "/r"},
            "linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}]},
        });
        for (key, value) in patch.as_object().unwrap() {
            config[key] = value.clone();
        }
        Request::parse(&config.to_string())
    }

    #[test]
    fn sizes_and_identity() {
        let request = parse(serde_json::json!({
            "hostname": "h",
            "annotations": {"run.oci.keep_original_groups": "1"},
            "linux": {
                "mountLabel": "system_u:object_r:container_file_t:s0:c1,c2",
                "resources": {"memory": {"limit": 536870912}, "cpu": {"quota": 150000, "period": 100000, "cpus": "0-1"}},
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1001, "size": 1}],
            }
        }))
        .unwrap();
        assert_eq!(request.memory, Some(512 << 20));
        assert_eq!(request.cpus, Some(1.5));
        assert_eq!(request.cpuset.as_deref(), Some("0-1"));
        assert_eq!(request.mapped_root, Some((1000, 1001)));
        assert_eq!(request.hostname.as_deref(), Some("h"));
        assert_eq!(request.label.as_deref(), Some("system_u:object_r:container_file_t:s0:c1,c2"));
        assert!(request.keeps_groups);
        assert_eq!(request.network, NetworkOwner::Foreign);
    }

    #[test]
    fn unlimited_is_no_size() {
        let request =
            parse(serde_json::json!({"linux": {"resources": {"memory": {"limit": -1}, "cpu": {"quota": 0}}}}));
        let request = request.unwrap();
        assert_eq!((request.memory, request.cpus), (None, None));
    }

    #[test]
    fn limits_by_cgroup_v2s_own_names_go_first() {
        for (max, want) in [("5000", Some(5000)), ("max", Some(7000)), ("0", None)] {
            let resources = serde_json::json!({"memory": {"limit": 7000}, "unified": {"memory.max": max}});
            let request = parse(serde_json::json!({"linux": {"resources": resources}})).unwrap();
            assert_eq!(request.memory, want, "{max}");
        }
    }

    #[test]
    fn an_engines_init_gives_way() {
        for init in ["/run/podman-init", "/dev/init", "/sbin/docker-init"] {
            let process =
                serde_json::json!({"cwd": "/", "args": [init, "--", "", "--emulated"], "user": {"uid": 0, "gid": 0}});
            assert!(parse(serde_json::json!({"process": process})).unwrap().options.emulated, "{init}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(Request::parse("{").unwrap_err().to_string().starts_with("config.json: "));
        let error = parse(serde_json::json!({"process": null})).unwrap_err();
        assert_eq!(error.to_string(), "config.json: it has no process");
    }
}
