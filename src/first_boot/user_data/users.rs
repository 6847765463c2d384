//! The users that user-data names.

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::super::yaml;
use super::{USER_DATA, unpacked};

/// Bytes of the longest cloud-config that is loaded as YAML; a loaded document takes many times its size. Clouds take
/// 64 KiB at most.
const LONGEST: usize = 1 << 20;

/// The users that the user-data names, in order, without `default`. If the data are not one cloud-config in plain YAML,
/// the list may contain extra names, which do no harm: they are only looked up.
pub fn users(user: &[u8]) -> Vec<String> {
    let unpacked = unpacked(USER_DATA, user).unwrap_or_default();
    let text = String::from_utf8_lossy(&unpacked);
    let mut names = cloud_config(&text).map_or_else(|| guessed(&readable(&text)), |config| configured(&config));
    names.retain(|name| name != "default");
    names.sort();
    names.dedup();
    names
}

/// The cloud-config, if the data are one document that cloud-init reads as it is and that has no references.
fn cloud_config(text: &str) -> Option<Value> {
    let rest = text.strip_prefix("#cloud-config")?;
    let plain = text.len() <= LONGEST && rest.starts_with(char::is_whitespace);
    let loaded = plain.then(|| yaml::document(text).ok()).flatten()?;
    loaded.filter(Value::is_object)
}

/// The users at the places where a cloud-config has them.
fn configured(config: &Value) -> Vec<String> {
    let mut names = listed(&config["users"]);
    names.extend(listed(&config["chpasswd"]["users"]));
    for one in [&config["user"], &config["system_info"]["default_user"]] {
        names.extend(one.as_str().or(one["name"].as_str()).map(str::to_owned));
    }
    names.retain(|name| is_user_name(name));
    names
}

/// The names in a list of users: `[NAME, {name: NAME}]`, `NAME,NAME` or `{NAME: …}`.
fn listed(users: &Value) -> Vec<String> {
    match users {
        Value::String(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        Value::Array(items) => items.iter().flat_map(item).collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The names in an item of such a list, which can be a list of names itself.
fn item(item: &Value) -> Vec<String> {
    match item {
        Value::Object(user) => user.get("name").and_then(Value::as_str).map(str::to_owned).into_iter().collect(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        names => listed(names),
    }
}

/// The users that templates, messages and other text may name, through which no YAML parser sees: what stands behind
/// `name:` or `user:`, and the items of `users:`.
fn guessed(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut listed = false;
    for line in text.lines() {
        let item = line.trim_start();
        if let Some(flow) = item.strip_prefix("users:") {
            listed = true;
            names.extend(flow.split(['[', ',', ']']).filter_map(user_name));
        }
        listed &= line.starts_with([' ', '\t', '-', '#', 'u']) || line.is_empty();
        names.extend(item.strip_prefix("- ").filter(|_| listed).and_then(user_name));
        names.extend(line.split([',', '{']).filter_map(named));
    }
    names
}

/// The user in `name: USER`, whatever quotes there are.
fn named(part: &str) -> Option<String> {
    let part = part.trim_start_matches([' ', '-', '\t', '"', '\'']);
    let value = part.strip_prefix("name").or_else(|| part.strip_prefix("user"))?;
    user_name(value.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?)
}

/// A user's name as it stands in YAML.
fn user_name(value: &str) -> Option<String> {
    let value = value.trim_matches([' ', '\t', '\r', '"', '\'', '}', ']']);
    is_user_name(value).then(|| value.to_owned())
}

fn is_user_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    first && name.len() <= 32 && name.chars().all(plain)
}

/// The text, with that of a message's parts in base64 behind it.
fn readable(text: &str) -> String {
    let text = text.replace('\r', "");
    let mut readable = text.clone();
    for part in text.split("\n--") {
        let Some((head, body)) = part.split_once("\n\n") else { continue };
        if head.to_ascii_lowercase().contains("content-transfer-encoding: base64") {
            let body: String = body.split_whitespace().collect();
            let bytes = Base64::decode_vec(&body).unwrap_or_default();
            readable.push('\n');
            readable.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::super::merge;
    use super::super::tests::gzip;
    use super::*;

    #[test]
    fn users_that_are_named() {
        let data = "#cloud-config\nusers:\n  - default\n  - name: alice\n    sudo: x\n  - {gecos: B, name: 'bob'}\n  - dora\n\
                    system_info: {\"default_user\": {\"name\": \"carol\"}}\nx: [{name: \"A b\"}, {name: ../x}]\nrename: no\n\
                    packages:\n- vim\n";
        let want = ["alice", "bob", "carol", "dora"];
        assert_eq!(users(data.as_bytes()), want);
        assert_eq!(
            users(b"#cloud-config\nuser: eve\nusers: [default, 'fay', gil]\nruncmd: [x]\n"),
            ["eve", "fay", "gil"]
        );
        assert_eq!(users(b"#!/bin/sh\nhostname: x\n"), [""; 0]);
        assert_eq!(users(format!("## template: jinja\n{data}").as_bytes()), want);
        assert_eq!(users(&gzip(data.as_bytes())), want);
        // As cloud-init's own make-mime has them, and as people write them.
        let merged = merge(data.as_bytes(), "#cloud-config\n").unwrap();
        assert_eq!(users(&merged), want);
        let crlf = String::from_utf8(merged).unwrap().replace('\n', "\r\n");
        assert_eq!(users(crlf.as_bytes()), want);
        let message = format!(
            "Content-Type: multipart/mixed; boundary=\"b\"\n\n--b\nContent-Type: text/jinja2\n\n{data}\n--b--\n"
        );
        assert_eq!(users(message.as_bytes()), want);
    }

    #[test]
    fn a_cloud_config_is_read_as_yaml() {
        let cases: [(&str, &[&str]); 9] = [
            ("users: alice, bob\n", &["alice", "bob"]),
            ("users: {alice: {sudo: x}, bob: true}\n", &["alice", "bob"]),
            ("users: [[alice, bob], 'carol,dora', 7, {gecos: A}]\n", &["alice", "bob", "carol", "dora"]),
            ("user: {name: eve}\nchpasswd:\n  users:\n    - {name: fay, password: x}\n", &["eve", "fay"]),
            ("users:\n- name: >-\n    gil\n- \"name\": \"\\x68al\"\n", &["gil", "hal"]),
            ("write_files:\n- content: |\n    name: no\nntp: {name: no}\ngroups:\n- no\n", &[]),
            ("users: [default, ../x, A, 'a b', '']\n", &[]),
            // What is not loaded is guessed at.
            ("x: &x {}\ny: *x\nntp: {name: ida}\n", &["ida"]),
            ("name: jo\n\tx: [\n", &["jo"]),
        ];
        for (text, want) in cases {
            assert_eq!(users(format!("#cloud-config\n{text}").as_bytes()), want, "{text}");
        }
        assert_eq!(users(b"#cloud-config-archive\n- content: {name: kim}\n"), ["kim"]);
        let long = format!("#cloud-config\nntp: {{name: lea}}\nx: {}\n", "x".repeat(LONGEST));
        assert_eq!(users(long.as_bytes()), ["lea"]);
    }
}
