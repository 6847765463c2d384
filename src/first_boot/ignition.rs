//! The Ignition configuration: the user's with ours added.

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};

use super::Identity;
use super::guest_setup::Setup;
use crate::error::{Error, Result};

const WHAT: &str = "--ignition";
/// Versions of the specification that are known; what we add is in all of them.
const VERSIONS: [&str; 7] = ["3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0", "3.5.0", "3.6.0"];

/// Ours alone without `user`. The password goes to `user_name`, the image's default user; keys to it, to root
/// and to every user that the configuration names.
///
/// # Errors
/// When the user's is not JSON, of an unknown version, or not shaped as a configuration.
pub fn config(identity: &Identity, user_name: &str, setup: &Setup, user: Option<&[u8]>) -> Result<String> {
    let mut config = match user {
        Some(bytes) => parse(bytes)?,
        None => Map::from_iter([("ignition".into(), json!({ "version": VERSIONS[0] }))]),
    };
    let users = list(object(&mut config, "passwd")?, "users")?;
    // The container's key is accepted for every user that the configuration names.
    let mut names = vec![user_name.to_owned(), "root".into()];
    names.extend(users.iter().filter_map(|user| user["name"].as_str()).map(String::from));
    names.sort();
    names.dedup();
    for name in &names {
        let keys = list(named(users, "name", name)?, "sshAuthorizedKeys")?;
        keys.extend(identity.public_keys.iter().map(|key| Value::from(key.as_str())));
    }
    if let Some(hash) = &identity.password_hash {
        named(users, "name", user_name)?.entry("passwordHash").or_insert_with(|| hash.as_str().into());
    }
    let files = list(object(&mut config, "storage")?, "files")?;
    if !files.iter().any(|file| file["path"] == "/etc/hostname") && !identity.hostname.is_empty() {
        let source = format!("data:,{}%0A", percent(&identity.hostname));
        files.push(
            json!({ "path": "/etc/hostname", "mode": 0o644, "overwrite": true, "contents": { "source": source } }),
        );
    }
    let source = format!("data:;base64,{}", Base64::encode_string(setup.file().as_bytes()));
    files.push(json!({ "path": SETUP, "mode": 0o600, "overwrite": true, "contents": { "source": source } }));
    let unit = json!({ "name": UNIT_NAME, "enabled": true, "contents": UNIT });
    list(object(&mut config, "systemd")?, "units")?.push(unit);
    Ok(Value::Object(config).to_string())
}

/// Path of the set-up script in the guest: a line of a unit cannot be that long. The copy serves guests whose kernel
/// does not provide fw_cfg; Ignition writes it on the first boot only.
const SETUP: &str = "/etc/crun-qemu-setup";
/// Its unit, which systemd's own mounts come before.
const UNIT_NAME: &str = "crun-qemu-setup.service";
/// Unit that runs the script on every boot, before the user's units, at the time of the mounts in fstab.
const UNIT: &str = "[Unit]\nDescription=What the container was given\nDefaultDependencies=no\nConflicts=umount.target\n\
    After=systemd-remount-fs.service local-fs-pre.target\nBefore=local-fs.target umount.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh /etc/crun-qemu-setup\n\
    [Install]\nWantedBy=local-fs.target\n";

/// The names of the users in a configuration that [`config`] takes.
pub fn users(config: &[u8]) -> Result<Vec<String>> {
    let config = Value::Object(parse(config)?);
    let users = config["passwd"]["users"].as_array().into_iter().flatten();
    Ok(users.filter_map(|user| user["name"].as_str()).map(String::from).collect())
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        let text = String::from_utf8_lossy(bytes);
        if text.lines().any(|line| line.starts_with("variant:")) {
            Error::new(WHAT, "a Butane configuration, which is YAML").hint("translate it: butane --strict FILE")
        } else {
            Error::new(WHAT, format!("not JSON: {e}"))
        }
    })?;
    let version = value["ignition"]["version"].as_str().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        // Nothing else is quoted from a file that may not be a configuration at all.
        let plain = version.len() <= 32 && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        let why = format!("ignition.version is {:?}", if plain { version } else { "?" });
        return Err(Error::new(WHAT, why).hint(format!("known are {}", VERSIONS.join(", "))));
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(shape("the configuration")),
    }
}

fn shape(name: &str) -> Error {
    Error::new(WHAT, format!("{name} is not what the specification says"))
}

/// The object with this name; added if missing.
fn object<'a>(map: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>> {
    let value = map.entry(name).or_insert_with(|| json!({}));
    value.as_object_mut().ok_or_else(|| shape(name))
}

/// The list with this name; added if missing.
fn list<'a>(map: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Vec<Value>> {
    let value = map.entry(name).or_insert_with(|| json!([]));
    value.as_array_mut().ok_or_else(|| shape(name))
}

/// The entry of `list` whose `key` is `name`; added if missing.
fn named<'a>(list: &'a mut Vec<Value>, key: &str, name: &str) -> Result<&'a mut Map<String, Value>> {
    let i = list.iter().position(|entry| entry[key] == name).unwrap_or_else(|| {
        list.push(json!({ key: name }));
        list.len() - 1
    });
    list[i].as_object_mut().ok_or_else(|| shape(name))
}

/// Percent-encodes for a data URL: all but letters, digits, `-` and `.`.
fn percent(text: &str) -> String {
    let byte = |b: u8| match b {
        b'-' | b'.' => char::from(b).to_string(),
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_items_are_there() {
        let identity = Identity {
            hostname: "web".into(),
            public_keys: vec!["ours".into()],
            password_hash: Some("$6$x".into()),
            ..Identity::default()
        };
        let user =
            br#"{"ignition":{"version":"3.3.0"},"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["theirs"]},{"name":"al"}]}}"#;
        let config = config(&identity, "core", &Setup::default(), Some(user)).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["ignition"], json!({ "version": "3.3.0" }));
        let names = json!([
            { "name": "core", "passwordHash": "$6$x", "sshAuthorizedKeys": ["theirs", "ours"] },
            { "name": "al", "sshAuthorizedKeys": ["ours"] },
            { "name": "root", "sshAuthorizedKeys": ["ours"] },
        ]);
        assert_eq!(config["passwd"], json!({ "users": names }));
        let hostname = json!({
            "contents": { "source": "data:,web%0A" }, "mode": 420, "overwrite": true, "path": "/etc/hostname",
        });
        assert_eq!(config["storage"]["files"][0], hostname);
        assert_eq!(users(user).unwrap(), ["core", "al"]);
    }

    #[test]
    fn a_unit_for_what_the_container_was_given() {
        assert!(UNIT.contains(&format!("ExecStart=/bin/sh {SETUP}\n")));
        assert!(super::super::guest_setup::OPTIONS.ends_with(UNIT_NAME));
        let setup = Setup::new(&Default::default(), &[("10.0.0.1".into(), "a b".into())]);
        let config = config(&Identity::default(), "core", &setup, None).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["systemd"]["units"][0]["contents"], UNIT);
        let source = config["storage"]["files"][0]["contents"]["source"].as_str().unwrap();
        let script = Base64::decode_vec(source.strip_prefix("data:;base64,").unwrap()).unwrap();
        assert_eq!(String::from_utf8(script).unwrap(), setup.file());
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (bad, why) in [
            ("variant: fcos\nversion: 1.5.0\n", "Butane"),
            ("hello", "not JSON"),
            ("[]", "ignition.version is \"\""),
            (r#"{"ignition":{"version":"2.2.0"}}"#, "ignition.version is \"2.2.0\""),
            (r#"{"ignition":{"version":"3.0.0"},"passwd":[]}"#, "passwd is not what"),
            (r#"{"ignition":{"version":"3.0.0"},"passwd":{"users":{}}}"#, "users is not what"),
        ] {
            let e =
                config(&Identity::default(), "core", &Setup::default(), Some(bad.as_bytes())).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }
}
