//! The files of a NoCloud seed.
//!
//! Generated YAML is JSON: one of the two has a writer that cannot be talked into a different document.

use serde_json::{Map, Value, json};

use super::Identity;
use super::seed::SeedFile;

/// What we have the guest do: mounts, links, files. Added to the user's own, item by item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setup {
    /// Entries as in fstab, with up to six fields: source, target, type, options, dump, pass.
    pub mounts: Vec<Vec<String>>,
    /// Commands for every boot, before anything is mounted.
    pub bootcmd: Vec<Vec<String>>,
    /// Commands for the first boot, after everything else.
    pub runcmd: Vec<Vec<String>>,
    /// Files to be made in the guest.
    pub write_files: Vec<GuestFile>,
}

/// A file in the guest, owned by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Absolute path.
    pub path: String,
    /// Its bytes, which are text.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// The seed's files without any of the user's.
pub fn own(identity: &Identity, setup: &Setup) -> Vec<SeedFile> {
    vec![
        ("meta-data".into(), text(&Value::Object(meta_data(identity)))),
        ("user-data".into(), cloud_config(identity, setup).into_bytes()),
    ]
}

/// `public-keys` reach the image's default user, whatever it is called.
fn meta_data(identity: &Identity) -> Map<String, Value> {
    let mut meta = Map::new();
    meta.insert("instance-id".into(), identity.instance_id.clone().into());
    meta.insert("local-hostname".into(), identity.hostname.clone().into());
    meta.insert("public-keys".into(), json!(identity.public_keys));
    meta
}

/// Our part of the user-data.
pub(super) fn cloud_config(identity: &Identity, setup: &Setup) -> String {
    let mut config = Map::new();
    // Root gets the keys too, without the forced command that only says who else to log in as.
    config.insert("disable_root".into(), false.into());
    if let Some(hash) = &identity.password_hash {
        config.insert("password".into(), hash.clone().into());
        config.insert("chpasswd".into(), json!({ "expire": false }));
    }
    for (key, lists) in [("mounts", &setup.mounts), ("bootcmd", &setup.bootcmd), ("runcmd", &setup.runcmd)] {
        if !lists.is_empty() {
            config.insert(key.into(), json!(lists));
        }
    }
    if !setup.write_files.is_empty() {
        let file =
            |f: &GuestFile| json!({ "path": f.path, "content": f.content, "permissions": format!("{:04o}", f.mode) });
        config.insert("write_files".into(), setup.write_files.iter().map(file).collect());
    }
    format!("#cloud-config\n{}\n", Value::Object(config))
}

/// JSON with a key a line: YAML reads it as the same value, and the simplest of guests with a pattern.
pub(super) fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_without_the_users() {
        let identity = Identity {
            instance_id: "crun-qemu-0123".into(),
            hostname: "web".into(),
            public_keys: vec!["ssh-ed25519 AAAA \"x\"".into()],
            password_hash: Some("$6$salt$hash".into()),
        };
        let setup = Setup {
            mounts: vec![["data", "/data", "virtiofs", "ro", "0", "0"].map(String::from).into()],
            bootcmd: vec![vec!["mkdir".into(), "-p".into(), "/a b".into()]],
            runcmd: vec![vec!["true".into()]],
            write_files: vec![GuestFile { path: "/etc/x".into(), content: "a\nb".into(), mode: 0o644 }],
        };
        let text: Vec<(String, String)> =
            own(&identity, &setup).into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect();
        assert_eq!(text[0].0, "meta-data");
        assert_eq!(
            text[0].1,
            concat!(
                "{\n",
                "  \"instance-id\": \"crun-qemu-0123\",\n",
                "  \"local-hostname\": \"web\",\n",
                "  \"public-keys\": [\n",
                "    \"ssh-ed25519 AAAA \\\"x\\\"\"\n",
                "  ]\n",
                "}\n"
            )
        );
        assert_eq!(text[1].0, "user-data");
        assert_eq!(
            text[1].1,
            concat!(
                "#cloud-config\n",
                r#"{"bootcmd":[["mkdir","-p","/a b"]],"chpasswd":{"expire":false},"disable_root":false,"#,
                r#""mounts":[["data","/data","virtiofs","ro","0","0"]],"password":"$6$salt$hash","#,
                r#""runcmd":[["true"]],"write_files":[{"content":"a\nb","path":"/etc/x","permissions":"0644"}]}"#,
                "\n"
            )
        );
    }
}
