//! The files of a NoCloud seed.
//!
//! Generated YAML is JSON: one of the two has a writer that cannot be talked into a different document.

use serde_json::{Map, Value, json};

use super::guest_setup::Setup;
use super::seed::SeedFile;
use super::user_dir::CloudInit;
use super::{Identity, user_data, yaml};
use crate::error::Result;

/// The seed's files: only ours without `user`, else ours merged with the user's, with no item of either lost.
///
/// # Errors
/// When the user's user-data is of no known kind, or the meta-data is not a YAML mapping.
pub fn files(identity: &Identity, setup: &Setup, user: Option<&CloudInit>) -> Result<Vec<SeedFile>> {
    let none = CloudInit::default();
    let user = user.unwrap_or(&none);
    let named = user.user_data.as_deref().map(user_data::users).unwrap_or_default();
    let let_in = (!named.is_empty()).then(|| let_in(identity, named));
    let own = cloud_config(identity, setup, let_in);
    let data = match &user.user_data {
        Some(data) => user_data::merge(data, &own)?,
        None => own.into_bytes(),
    };
    let meta = meta_data(identity, user.meta_data.as_deref())?;
    let mut files = vec![("meta-data".into(), text(&Value::Object(meta))), ("user-data".into(), data)];
    for (name, bytes) in [("vendor-data", &user.vendor_data), ("network-config", &user.network_config)] {
        files.extend(bytes.iter().map(|bytes| (name.to_owned(), bytes.clone())));
    }
    Ok(files)
}

/// A command by which the users that the user-data names get the keys, too: only the default user and root get those of
/// the meta-data, and of two lists of keys for a user cloud-init takes one.
fn let_in(identity: &Identity, users: Vec<String>) -> Vec<String> {
    const SCRIPT: &str = r#"keys=$1; shift; for user; do
home=$(getent passwd "$user" | cut -d: -f6); [ -d "$home" ] || continue; file=$home/.ssh/authorized_keys
[ -d "$home/.ssh" ] || install -d -m 700 -o "$user" -g "$(id -g "$user")" "$home/.ssh"
[ -e "$file" ] || install -m 600 -o "$user" -g "$(id -g "$user")" /dev/null "$file"
printf '%s\n' "$keys" | while read -r key; do grep -qxF "$key" "$file" || printf '\n%s\n' "$key" >> "$file"; done; done"#;
    let mut command: Vec<String> = ["sh", "-c", SCRIPT, "sh"].map(String::from).into();
    command.push(identity.public_keys.join("\n"));
    command.extend(users);
    command
}

/// `public-keys` reach the image's default user, whatever it is called. The instance is the user's *and* the
/// container's: a disk in another container is on its first boot again, as only that gives it the new key.
fn meta_data(identity: &Identity, user: Option<&[u8]>) -> Result<Map<String, Value>> {
    let mut meta = user.map_or_else(|| Ok(Map::new()), |data| yaml::mapping("meta-data", data))?;
    let id = match meta.get("instance-id") {
        Some(Value::String(id)) => format!("{id}-{}", identity.instance_id),
        Some(Value::Number(id)) => format!("{id}-{}", identity.instance_id),
        _ => identity.instance_id.clone(),
    };
    meta.insert("instance-id".into(), id.into());
    meta.entry("local-hostname").or_insert_with(|| identity.hostname.clone().into());
    let mut keys = identity.public_keys.clone();
    match meta.remove("public-keys") {
        Some(Value::String(key)) => keys.extend(key.lines().map(String::from)),
        Some(Value::Array(more)) => keys.extend(more.iter().filter_map(Value::as_str).map(String::from)),
        Some(Value::Object(more)) => keys.extend(more.values().filter_map(Value::as_str).map(String::from)),
        _ => {}
    }
    meta.insert("public-keys".into(), json!(keys));
    Ok(meta)
}

/// Our part of the user-data: a command for every boot, before anything is mounted, and some for the first, at its end.
fn cloud_config(identity: &Identity, setup: &Setup, runcmd: Option<Vec<String>>) -> String {
    let mut config = Map::new();
    // Root gets the keys too, without cloud-init's forced command that only names the user to log in as.
    config.insert("disable_root".into(), false.into());
    if let Some(hash) = &identity.password_hash {
        config.insert("password".into(), hash.clone().into());
        config.insert("chpasswd".into(), json!({ "expire": false }));
    }
    config.insert("bootcmd".into(), json!([setup.command()]));
    // The results of the first boot are synced to disk before the guest runs on: they are made only once.
    let sync = vec!["sync".to_string()];
    config.insert("runcmd".into(), runcmd.into_iter().chain([sync]).collect());
    format!("#cloud-config\n{}\n", Value::Object(config))
}

/// JSON with a key a line: YAML reads it as the same value, and the simplest of guests with a pattern.
pub(super) fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::attachments::{Attachments, Tmpfs};

    #[test]
    fn the_files_without_the_users() {
        let identity = Identity {
            instance_id: "crun-qemu-0123".into(),
            hostname: "web".into(),
            public_keys: vec!["ssh-ed25519 AAAA \"x\"".into()],
            password_hash: Some("$6$salt$hash".into()),
        };
        let setup = Setup::new(
            &Attachments {
                tmpfs: vec![Tmpfs { target: "/a b".into(), options: vec![], copy_up: false }],
                ..Attachments::default()
            },
            &[],
        );
        let text: Vec<(String, String)> = files(&identity, &setup, None)
            .unwrap()
            .into_iter()
            .map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
            .collect();
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
            text[1].1.replace(&json!(setup.command()).to_string(), "SETUP"),
            concat!(
                "#cloud-config\n",
                r#"{"bootcmd":["#,
                "SETUP",
                r#"],"chpasswd":{"expire":false},"disable_root":false,"password":"$6$salt$hash","runcmd":[["sync"]]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn users_of_the_user_data_are_let_in() {
        let identity = Identity { public_keys: vec!["one".into(), "two".into()], ..Identity::default() };
        let command = let_in(&identity, vec!["alice".into()]);
        assert_eq!(command[3..], ["sh", "one\ntwo", "alice"]);
        let checked = std::process::Command::new("sh").args(["-n", "-c", &command[2]]).status().unwrap();
        assert!(checked.success());
    }

    #[test]
    fn the_users_meta_data_is_kept() {
        let identity = Identity { instance_id: "c1".into(), public_keys: vec!["ours".into()], ..Identity::default() };
        let user = b"instance-id: mine\nlocal-hostname: named\npublic-keys:\n  - theirs\nx: {y: [1, true, null]}\n";
        let meta = Value::Object(meta_data(&identity, Some(user)).unwrap());
        let want = json!({"instance-id": "mine-c1", "local-hostname": "named", "public-keys": ["ours", "theirs"],
            "x": {"y": [1, true, null]}});
        assert_eq!(meta, want);
        for bad in ["- a list", "a: [", "a: &x 1\nb: *x"] {
            assert!(meta_data(&identity, Some(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
