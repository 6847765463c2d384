//! Applies [`Edits`] to a config.json, and similar edits to the process of `podman exec`. Pure; runs in the runtime
//! executable.

use std::path::Path;

use serde_json::{Value, json};

use crate::edits::memory_limits::{self, Change};
use crate::edits::{Edits, MountEdit};
use crate::error::{Error, Result};
use crate::handoff::paths;

/// The annotation that makes crun look for a handler.
const HANDLER: &str = "run.oci.handler";

/// Edits the configuration; `hook` is the executable that sets up the network as an OCI `createContainer` hook.
///
/// # Errors
/// The configuration has a member of a type other than the OCI specification's.
pub fn apply(config: &mut Value, edits: &Edits, hook: &Path) -> Result<()> {
    // With the plugin installed as well, the plugin must not act on the edited configuration.
    if let Some(annotations) = config.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(HANDLER);
    }
    let root = object(config, "root")?;
    root.insert("path".into(), json!(edits.root));
    root.insert("readonly".into(), json!(true));
    let process = object(config, "process")?;
    process.insert("args".into(), json!(edits.args));
    process.insert("cwd".into(), json!("/"));
    process.insert("env".into(), json!(paths::ENVIRONMENT));
    process.insert("user".into(), json!({"uid": 0, "gid": 0}));
    let old = config.get("mounts").and_then(Value::as_array).cloned().unwrap_or_default();
    config["mounts"] = edits.mounts.iter().map(|edit| mount(edit, &old)).collect::<Result<_>>()?;
    let linux = object(config, "linux")?;
    for (index, path) in &edits.device_paths {
        let device = list(linux, "devices")?.get_mut(*index).and_then(Value::as_object_mut);
        device.ok_or_else(|| malformed("devices"))?.insert("path".into(), json!(path));
    }
    let resources = child(linux, "resources", json!({}))?;
    let rules = list(resources, "devices")?;
    // Without rules, every device is allowed, and a first rule would forbid the others.
    if !rules.is_empty() {
        rules.extend(
            edits.devices.iter().map(
                |d| json!({"allow": true, "type": d.kind(), "major": d.major, "minor": d.minor, "access": d.access}),
            ),
        );
    }
    change_limits(resources, &Change::Raise(edits.memory));
    let root = config.as_object_mut().ok_or_else(|| malformed("it"))?;
    list(child(root, "hooks", json!({}))?, "createContainer")?.push(json!({"path": hook, "args": [hook, "network"]}));
    Ok(())
}

/// Changes the memory limits in `resources`.
pub fn change_limits(resources: &mut Object, change: &Change) {
    if let Some(memory) = resources.get_mut("memory").and_then(Value::as_object_mut) {
        for (name, new) in [("limit", Change::limit as fn(&_, _) -> _), ("swap", Change::swap)] {
            if let Some(old) = memory.get(name).and_then(Value::as_i64) {
                memory.insert(name.into(), json!(new(change, old)));
            }
        }
    }
    if let Some(unified) = resources.get_mut("unified").and_then(Value::as_object_mut) {
        for (index, name) in memory_limits::UNIFIED.iter().enumerate() {
            let old = unified.get(*name).and_then(Value::as_str);
            if let Some(limit) = old.and_then(|old| change.file(index, old)) {
                unified.insert((*name).into(), json!(limit));
            }
        }
    }
}

/// Edits the process of `podman exec C ARGS`: it becomes `crun-qemu-init exec`, which runs ARGS in the guest.
///
/// # Errors
/// See [`apply`].
pub fn apply_exec(process: &mut Value) -> Result<()> {
    let process = process.as_object_mut().ok_or_else(|| malformed("process"))?;
    let given = process.get("args").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut args = vec![json!(paths::INIT), json!("exec")];
    if let Some(cwd) = process.get("cwd").and_then(Value::as_str).filter(|cwd| *cwd != "/") {
        args.extend([json!("--cwd"), json!(cwd)]);
    }
    args.push(json!("--"));
    args.extend(given);
    let given = process.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    let inert = given.iter().filter_map(Value::as_str).enumerate();
    let inert = inert.map(|(n, variable)| format!("{}{n}={variable}", paths::EXEC_ENV));
    let env = inert.chain(paths::ENVIRONMENT.iter().map(ToString::to_string));
    process.insert("env".into(), env.collect());
    process.insert("args".into(), args.into());
    process.insert("cwd".into(), json!("/"));
    process.insert("user".into(), json!({"uid": 0, "gid": 0}));
    Ok(())
}

fn mount(edit: &MountEdit, old: &[Value]) -> Result<Value> {
    let at = |index: usize| old.get(index).cloned().ok_or_else(|| malformed("mounts"));
    Ok(match edit {
        MountEdit::Keep(index) => at(*index)?,
        MountEdit::Move { index, destination, options } => {
            let mut mount = at(*index)?;
            mount["destination"] = json!(destination);
            list(mount.as_object_mut().ok_or_else(|| malformed("mounts"))?, "options")?
                .extend(options.iter().map(|option| json!(option)));
            mount
        }
        MountEdit::Add(m) => {
            json!({"destination": m.destination, "type": m.kind, "source": m.source, "options": m.options})
        }
    })
}

type Object = serde_json::Map<String, Value>;

fn malformed(what: &str) -> Error {
    Error::new("config.json", format!("{what} is not what the OCI specification says"))
}

fn object<'a>(config: &'a mut Value, name: &str) -> Result<&'a mut Object> {
    config.get_mut(name).and_then(Value::as_object_mut).ok_or_else(|| malformed(name))
}

/// The object with this name; added if missing or null.
fn child<'a>(parent: &'a mut Object, name: &str, empty: Value) -> Result<&'a mut Object> {
    present(parent, name, empty).as_object_mut().ok_or_else(|| malformed(name))
}

fn list<'a>(parent: &'a mut Object, name: &str) -> Result<&'a mut Vec<Value>> {
    present(parent, name, json!([])).as_array_mut().ok_or_else(|| malformed(name))
}

fn present<'a>(parent: &'a mut Object, name: &str, empty: Value) -> &'a mut Value {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = empty;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edits::{DeviceRule, Mount};

    fn edits() -> Edits {
        Edits {
            root: "/b/crun-qemu/root".into(),
            args: vec![paths::INIT.into()],
            mounts: vec![
                MountEdit::Add(Mount {
                    destination: "/usr".into(),
                    kind: "bind".into(),
                    source: "/usr".into(),
                    options: vec!["bind".into(), "ro".into()],
                }),
                MountEdit::Keep(0),
                MountEdit::Move { index: 1, destination: "/crun-qemu/mounts/0".into(), options: vec!["nosuid".into()] },
            ],
            devices: vec![DeviceRule { is_block: false, major: 10, minor: 200, access: "rw" }],
            device_paths: vec![(1, "/dev/crun-qemu/1".into())],
            memory: 1000,
        }
    }

    #[test]
    fn edits_are_applied_and_other_members_stay() {
        let mut config = json!({
            "ociVersion": "1.0.2", "unknown": {"kept": 1},
            "annotations": {"run.oci.handler": "qemu", "x": "y"},
            "process": {"terminal": true, "args": ["/evil"], "env": ["LD_PRELOAD=/disk/x"], "cwd": "/nowhere",
                        "user": {"uid": 1000, "gid": 1000, "additionalGids": [4]}},
            "root": {"path": "/image"},
            "mounts": [{"destination": "/proc", "type": "proc"},
                       {"destination": "/data", "source": "/d", "options": ["rw"]}, {"destination": "/run/secrets"}],
            "linux": {"devices": [{"path": "/a"}, {"path": "/b", "type": "b"}],
                      "resources": {"devices": [{"allow": false}], "cpu": {"shares": 5},
                                    "memory": {"limit": 5000, "swap": 9000, "reservation": 70, "kernel": 80},
                                    "unified": {"memory.max": "5000", "memory.high": "max", "memory.low": "70"}}}
        });
        apply(&mut config, &edits(), Path::new("/bin/crun-qemu")).unwrap();
        let want = json!({
            "ociVersion": "1.0.2", "unknown": {"kept": 1},
            "annotations": {"x": "y"},
            "process": {"terminal": true, "args": [paths::INIT], "env": paths::ENVIRONMENT, "cwd": "/",
                        "user": {"uid": 0, "gid": 0}},
            "root": {"path": "/b/crun-qemu/root", "readonly": true},
            "mounts": [{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro"]},
                       {"destination": "/proc", "type": "proc"},
                       {"destination": "/crun-qemu/mounts/0", "source": "/d", "options": ["rw", "nosuid"]}],
            "linux": {"devices": [{"path": "/a"}, {"path": "/dev/crun-qemu/1", "type": "b"}],
                      "resources": {"devices": [{"allow": false},
                      {"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw"}],
                      "cpu": {"shares": 5}, "memory": {"limit": 6000, "swap": 10000, "reservation": 70, "kernel": 80},
                      "unified": {"memory.max": "6000", "memory.high": "max", "memory.low": "70"}}},
            "hooks": {"createContainer": [{"path": "/bin/crun-qemu", "args": ["/bin/crun-qemu", "network"]}]}
        });
        assert_eq!(config, want);
    }

    #[test]
    fn exec_gets_its_environment_in_an_inert_form() {
        let mut process = json!({"args": ["fedora", "id"], "env": ["LD_PRELOAD=x", "A=b"], "cwd": "/srv",
                                 "user": {"uid": 7, "gid": 7}, "terminal": false});
        apply_exec(&mut process).unwrap();
        let want = json!({
            "args": [paths::INIT, "exec", "--cwd", "/srv", "--", "fedora", "id"],
            "env": ["CRUN_QEMU_ENV_0=LD_PRELOAD=x", "CRUN_QEMU_ENV_1=A=b", paths::ENVIRONMENT[0]],
            "cwd": "/", "user": {"uid": 0, "gid": 0}, "terminal": false
        });
        assert_eq!(process, want);
    }

    #[test]
    fn malformed_configurations_are_refused() {
        for config in [json!([]), json!({"root": 1}), json!({"root": {}, "process": {}, "mounts": []})] {
            assert!(apply(&mut config.clone(), &edits(), Path::new("/h")).is_err(), "{config}");
        }
    }
}
