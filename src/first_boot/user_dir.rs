//! The user's NoCloud directory: each file is what cloud-init takes under that name, or it is refused. A guest is not
//! handed files of other kinds by way of its first boot.

use super::{user_data, yaml};
use crate::error::{Error, Result};
use crate::host::user_files::Directory;

/// A NoCloud directory's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudInit {
    /// `user-data`, of any kind that cloud-init takes.
    pub user_data: Option<Vec<u8>>,
    /// `meta-data`, YAML.
    pub meta_data: Option<Vec<u8>>,
    /// `vendor-data`, of the same kinds as `user-data`, passed on as it is.
    pub vendor_data: Option<Vec<u8>>,
    /// `network-config`, passed on as it is.
    pub network_config: Option<Vec<u8>>,
}

impl CloudInit {
    /// Reads the directory that `--cloud-init` names.
    ///
    /// # Errors
    /// Neither `user-data` nor `meta-data` exists, or one of the files cannot be read or is not what
    /// its name promises.
    pub fn read(dir: &Directory) -> Result<Self> {
        let files = Self {
            user_data: dir.read("user-data")?,
            meta_data: dir.read("meta-data")?,
            vendor_data: dir.read("vendor-data")?,
            network_config: dir.read("network-config")?,
        };
        if files.user_data.is_none() && files.meta_data.is_none() {
            return Err(Error::new(dir.name(), "it contains neither user-data nor meta-data"));
        }
        files.check()?;
        Ok(files)
    }

    fn check(&self) -> Result<()> {
        for (name, data) in [("user-data", &self.user_data), ("vendor-data", &self.vendor_data)] {
            data.as_deref().map_or(Ok(()), |data| user_data::check(name, data))?;
        }
        self.meta_data.as_deref().map_or(Ok(()), |data| yaml::mapping("meta-data", data).map(drop))?;
        self.network_config.as_deref().map_or(Ok(()), network_config)
    }
}

/// Version 1, or 2 (which netplan reads), with or without `network:` around it.
fn network_config(data: &[u8]) -> Result<()> {
    const NAME: &str = "network-config";
    let map = yaml::mapping(NAME, data)?;
    if map.is_empty() || ["network", "version", "config"].iter().any(|key| map.contains_key(*key)) {
        return Ok(());
    }
    Err(Error::new(format!("--cloud-init {NAME}"), "not a network configuration")
        .hint("it needs version: 1 or version: 2, at the top or under network:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHADOW: &[u8] = b"root:$y$j9T$secret:19700:0:99999:7:::\ndaemon:*:19700:0:99999:7:::\n";

    #[test]
    fn each_file_is_what_its_name_says() {
        let with = |name: &str, data: &[u8]| {
            let data = Some(data.to_vec());
            match name {
                "user-data" => CloudInit { user_data: data, ..Default::default() },
                "meta-data" => CloudInit { meta_data: data, ..Default::default() },
                "vendor-data" => CloudInit { vendor_data: data, ..Default::default() },
                _ => CloudInit { network_config: data, ..Default::default() },
            }
        };
        for (name, good) in [
            ("user-data", &b"#cloud-config\n{}\n"[..]),
            ("user-data", b"\n"),
            ("vendor-data", b"#!/bin/sh\n"),
            ("vendor-data", b"Content-Type: multipart/mixed; boundary=x\n\n--x--\n"),
            ("vendor-data", b""),
            ("meta-data", b"instance-id: x\n"),
            ("meta-data", b""),
            ("network-config", b"version: 2\nethernets: {}\n"),
            ("network-config", b"network: {version: 1, config: []}\n"),
            ("network-config", b"{\"config\": \"disabled\"}"),
            ("network-config", b"\n"),
        ] {
            assert_eq!(with(name, good).check(), Ok(()), "{name} {good:?}");
        }
        let key = b"-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----\n";
        let environment = b"PASSWORD=secret\0HOME=/root\0";
        for name in ["user-data", "meta-data", "vendor-data", "network-config"] {
            for bad in [SHADOW, key, environment, b"secret\n", b"- secret\n", b"\x7fELFsecret", b"\x1f\x8bsecret"] {
                let e = with(name, bad).check().expect_err(&format!("{name} {bad:?}")).to_string();
                assert!(e.starts_with(&format!("--cloud-init {name}: ")) && !e.contains("secret"), "{e}");
            }
        }
        let other = with("network-config", b"secret: x\n").check().unwrap_err().to_string();
        assert!(other.contains("not a network configuration"), "{other}");
    }
}
