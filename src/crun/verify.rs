//! Compares everything that is used later with config.json. Reads only, and only through the kernel.

use super::compare::{Mismatch, pointers, read, same, text, texts};
use super::config::{Config, Linux, Mount, Process, Root};
use super::layout::{LAYOUTS, Layout};
use super::memory::{self, Limits};
use super::sys::{crun_config, crun_device, crun_linux, crun_mount, crun_process, crun_resources, crun_root};

/// Pointers that have been verified: each points to a struct of its type, with the content of config.json.
#[derive(Debug)]
pub struct Proven {
    pub def: *mut crun_config,
    pub root: *mut crun_root,
    pub process: *mut crun_process,
    pub mounts: Vec<*mut crun_mount>,
    /// The devices that crun makes.
    pub made: Vec<*mut crun_device>,
    /// `None` if there are no device rules: then every device is allowed, and a first rule would forbid the others.
    pub devices: Option<Devices>,
    pub limits: Limits,
}

/// The list of device rules.
#[derive(Debug, PartialEq)]
pub struct Devices {
    pub resources: *mut crun_resources,
    pub layout: &'static Layout,
}

/// Proves that `def` is `config`.
pub fn prove(def: *mut crun_config, config: &Config) -> Result<Proven, Mismatch> {
    let top = read(def, "the configuration")?;
    text(top.oci_version, &config.oci_version, || "ociVersion".into())?;
    let root = config.root.as_ref().ok_or("root")?;
    prove_root(top.root, root)?;
    let process = config.process.as_ref().ok_or("process")?;
    prove_process(top.process, process)?;
    let mounts = prove_mounts(top.mounts, top.mounts_len, config.mounts.as_deref().unwrap_or_default())?;
    let made = prove_made(top.linux_, config)?;
    let (devices, limits) = prove_linux(top.linux_, config)?;
    Ok(Proven { def, root: top.root, process: top.process, mounts, made, devices, limits })
}

fn prove_root(at: *mut crun_root, want: &Root) -> Result<(), Mismatch> {
    let got = read(at, "root")?;
    text(got.path, &want.path, || "root.path".into())?;
    same(got.readonly == u8::from(want.readonly.unwrap_or(false)), || "root.readonly".into())
}

fn prove_process(at: *mut crun_process, want: &Process) -> Result<(), Mismatch> {
    let got = read(at, "process")?;
    texts(got.args, got.args_len, &want.args, || "process.args".into())?;
    text(got.cwd, &want.cwd, || "process.cwd".into())?;
    texts(got.env, got.env_len, &want.env, || "process.env".into())
}

fn prove_mounts(at: *mut *mut crun_mount, len: usize, want: &[Mount]) -> Result<Vec<*mut crun_mount>, Mismatch> {
    let mounts = pointers(at, len, want.len(), || "mounts".into())?;
    for (i, (mount, want)) in mounts.iter().zip(want).enumerate() {
        let name = |field: &str| format!("mounts[{i}]{field}");
        let got = read(*mount, &name(""))?;
        text(got.source, &want.source, || name(".source"))?;
        text(got.destination, &want.destination, || name(".destination"))?;
        text(got.type_, &want.kind, || name(".type"))?;
        texts(got.options, got.options_len, &want.options, || name(".options"))?;
    }
    Ok(mounts)
}

fn prove_made(at: *mut crun_linux, config: &Config) -> Result<Vec<*mut crun_device>, Mismatch> {
    let Some(want) = config.linux.as_ref().and_then(|linux| linux.devices.as_deref()) else { return Ok(Vec::new()) };
    let got = read(at, "linux")?;
    let made = pointers(got.devices, got.devices_len, want.len(), || "linux.devices".into())?;
    for (i, (device, want)) in made.iter().zip(want).enumerate() {
        let name = |field: &str| format!("linux.devices[{i}]{field}");
        let got = read(*device, &name(""))?;
        text(got.type_, &want.kind, || name(".type"))?;
        text(got.path, &want.path, || name(".path"))?;
    }
    Ok(made)
}

/// Reads `linux` by the known layouts that `config` permits; if it permits several, they agree.
fn prove_linux(at: *mut crun_linux, config: &Config) -> Result<(Option<Devices>, Limits), Mismatch> {
    let Some(linux) = &config.linux else {
        same(at.is_null(), || "linux".into())?;
        return Ok(Default::default());
    };
    let (mut proven, mut furthest) = (Vec::new(), "linux".to_owned());
    for layout in &LAYOUTS {
        match prove_resources(layout, at, linux) {
            Ok(found) => proven.push(found),
            // A longer path was compared later.
            Err(at) if at.len() >= furthest.len() => furthest = at,
            Err(_) => {}
        }
    }
    let mut proven = proven.into_iter();
    let first = proven.next().ok_or(furthest)?;
    same(proven.all(|other| other == first), || "linux.resources".into())?;
    Ok(first)
}

fn prove_resources(
    layout: &'static Layout,
    linux: *mut crun_linux,
    want: &Linux,
) -> Result<(Option<Devices>, Limits), Mismatch> {
    let resources = layout.resources(linux).ok_or("linux")?;
    let Some(want) = &want.resources else {
        same(resources.is_null(), || "linux.resources".into())?;
        return Ok(Default::default());
    };
    let list = read(resources, "linux.resources")?;
    let limits = memory::prove(&list, &want.limits, layout)?;
    let want = want.devices.as_deref().unwrap_or_default();
    let rules = pointers(list.devices, list.devices_len, want.len(), || "linux.resources.devices".into())?;
    if want.is_empty() {
        return Ok((None, limits));
    }
    let all = rules.iter().zip(want).all(|(at, want)| layout.is_rule(*at, want));
    same(all, || "linux.resources.devices".into())?;
    Ok((Some(Devices { resources, layout }), limits))
}
