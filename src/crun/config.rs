//! The part of config.json that is compared with crun's structs, which crun parsed from it.

use serde::Deserialize;

use crate::edits::memory_limits::RequestedLimits;
use crate::error::{Context, Result};
use crate::request::Bundle;

/// The configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub oci_version: Option<String>,
    pub mounts: Option<Vec<Mount>>,
    pub root: Option<Root>,
    pub process: Option<Process>,
    pub linux: Option<Linux>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mount {
    pub destination: Option<String>,
    pub source: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub options: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Root {
    pub path: Option<String>,
    pub readonly: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Process {
    pub args: Option<Vec<String>>,
    pub cwd: Option<String>,
    pub env: Option<Vec<String>>,
    pub user: Option<User>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct User {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Linux {
    pub devices: Option<Vec<Device>>,
    pub resources: Option<Resources>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Device {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub path: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Resources {
    pub devices: Option<Vec<DeviceRule>>,
    #[serde(flatten)]
    pub limits: RequestedLimits,
}

#[derive(Debug, Clone, Deserialize)]
pub struct DeviceRule {
    pub allow: Option<bool>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: Option<String>,
}

impl Config {
    /// Parses the bundle's configuration.
    pub fn parse(bundle: &Bundle) -> Result<Self> {
        serde_json::from_str(&bundle.config).context(bundle.config_path().display())
    }
}
