//! The user's user-data and ours beside it, as one MIME message.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::error::{Error, Result};

/// Name of the file.
const USER_DATA: &str = "user-data";
/// How far gzip may unpack.
const LARGEST: usize = 16 << 20;
/// How gzip's data begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How each kind begins; cloud-init looks at the same.
const KINDS: [&str; 9] = [
    "#cloud-config",
    "#!",
    "## template: jinja",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#upstart-job",
];
/// The later part's policy decides: our lists are appended to the user's, a value that the user gave stays.
const POLICY: &str = "list(append)+dict(no_replace,recurse_list)+str()";

/// The message: the user's part first, ours last.
///
/// # Errors
/// When the user's is not a kind that cloud-init knows.
pub fn merge(user: &[u8], own: &str) -> Result<Vec<u8>> {
    let unpacked = unpacked(USER_DATA, user)?;
    let theirs = match recognized(USER_DATA, &unpacked)? {
        Kind::Empty => return Ok(own.as_bytes().to_vec()),
        // Nested as it is: cloud-init walks through all levels.
        Kind::Message(message) => message.to_vec(),
        Kind::Part => part("text/plain", "", &unpacked),
    };
    let own = part("text/cloud-config", &format!("Merge-Type: {POLICY}\n"), own.as_bytes());
    let boundary = boundary(&theirs);
    let head = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    let mut out = head.into_bytes();
    for part in [theirs, own] {
        out.extend(format!("\n--{boundary}\n").into_bytes());
        out.extend(part);
    }
    out.extend(format!("\n--{boundary}--\n").into_bytes());
    Ok(out)
}

/// Checks that `data`, the content of `--cloud-init`'s file `name`, is of a kind that cloud-init knows. No error quotes
/// what is in it.
///
/// # Errors
/// When it is not.
pub fn check(name: &str, data: &[u8]) -> Result<()> {
    recognized(name, &unpacked(name, data)?).map(drop)
}

/// What cloud-init takes data for.
enum Kind<'a> {
    Empty,
    /// A MIME message.
    Message(&'a [u8]),
    /// One document, whose kind its first line tells.
    Part,
}

fn recognized<'a>(name: &str, data: &'a [u8]) -> Result<Kind<'a>> {
    if data.trim_ascii().is_empty() {
        return Ok(Kind::Empty);
    }
    if let Some(message) = message(data) {
        if std::str::from_utf8(message).is_err() {
            let why = "a MIME message that is not UTF-8, which cloud-init cannot read";
            return Err(Error::new(format!("--cloud-init {name}"), why).hint("Content-Transfer-Encoding: base64"));
        }
        return Ok(Kind::Message(message));
    }
    if KINDS.iter().any(|kind| data.starts_with(kind.as_bytes())) {
        return Ok(Kind::Part);
    }
    Err(Error::new(format!("--cloud-init {name}"), "not a kind that cloud-init knows")
        .hint("it must begin with #cloud-config, #!, ## template: jinja, #include or a MIME header"))
}

fn unpacked<'a>(name: &str, data: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    if data.starts_with(&GZIP) { gunzip(name, data).map(Cow::Owned) } else { Ok(Cow::Borrowed(data)) }
}

/// The users that the user-data may name, in whatever part: what stands behind `name:` or `user:`, and the items of
/// `users:`. More than there are does no harm to those who look for them, and no YAML parser sees through templates and
/// messages.
pub fn users(user: &[u8]) -> Vec<String> {
    let unpacked = unpacked(USER_DATA, user).unwrap_or_default();
    let text = readable(&String::from_utf8_lossy(&unpacked));
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
    names.retain(|name| name != "default");
    names.sort();
    names.dedup();
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
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let first = value.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    (first && value.len() <= 32 && value.chars().all(plain)).then(|| value.to_owned())
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

/// A message of the user's own, less the line by which mail folders tell messages apart.
fn message(user: &[u8]) -> Option<&[u8]> {
    let start = match user.strip_prefix(b"From ") {
        Some(rest) => &rest[rest.iter().position(|&b| b == b'\n')? + 1..],
        None => user,
    };
    let head = String::from_utf8_lossy(&start[..start.len().min(4096)]).to_ascii_lowercase();
    let mut headers = head.lines().take_while(|line| !line.is_empty());
    let first = headers.clone().next()?.split_once(':')?.0;
    let name = !first.is_empty() && first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (name && headers.any(|line| line.starts_with("content-type:"))).then_some(start)
}

/// In base64, which keeps every byte. Of type text/plain it is cloud-init that looks what it is.
fn part(kind: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "Content-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n{headers}Content-Transfer-Encoding: base64\n\n"
    );
    for line in Base64::encode_string(body).as_bytes().chunks(76) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.into_bytes()
}

/// One that the user's message does not use: numbered as the first that is not used. It is found in one pass over a
/// message that may use very many.
fn boundary(theirs: &[u8]) -> String {
    const START: &[u8] = b"==crun-qemu-";
    let number = |i: usize| {
        let rest = theirs[i..].strip_prefix(START)?;
        let digits = rest.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse::<u32>().ok()
    };
    let used: BTreeSet<u32> = (0..theirs.len()).filter_map(number).collect();
    let free = (0..).zip(&used).find(|(i, used)| i != *used).map_or(used.len() as u32, |(i, _)| i);
    format!("==crun-qemu-{free}==")
}

/// RFC 1952, one member.
fn gunzip(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let bad =
        || Error::new(format!("--cloud-init {name}"), "gzip data that cannot be unpacked, or is larger than 16 MiB");
    let deflated = (|| {
        let flags = *bytes.get(3)?;
        let mut at = 10;
        if flags & 4 != 0 {
            at += 2 + usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                at += bytes.get(at..)?.iter().position(|&b| b == 0)? + 1;
            }
        }
        bytes.get(at + if flags & 2 != 0 { 2 } else { 0 }..)
    })();
    decompress_to_vec_with_limit(deflated.ok_or_else(bad)?, LARGEST).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_first_and_ours_last() {
        let want = concat!(
            "Content-Type: multipart/mixed; boundary=\"==crun-qemu-0==\"\nMIME-Version: 1.0\n\n--==crun-qemu-0==\n",
            "Content-Type: text/plain; charset=\"utf-8\"\nMIME-Version: 1.0\n",
            "Content-Transfer-Encoding: base64\n\nIyEvYmluL3NoCg==\n\n--==crun-qemu-0==\n",
            "Content-Type: text/cloud-config; charset=\"utf-8\"\nMIME-Version: 1.0\n",
            "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n",
            "Content-Transfer-Encoding: base64\n\nI2Nsb3VkLWNvbmZpZwo=\n\n--==crun-qemu-0==--\n",
        );
        let gzip = [
            &[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..],
            b"name\0",
            &miniz_oxide::deflate::compress_to_vec(b"#!/bin/sh\n", 6),
            &[0; 8],
        ]
        .concat();
        for user in [b"#!/bin/sh\n".as_slice(), &gzip] {
            assert_eq!(String::from_utf8(merge(user, "#cloud-config\n").unwrap()).unwrap(), want);
        }
    }

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
        let gzip =
            [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &miniz_oxide::deflate::compress_to_vec(data.as_bytes(), 6)];
        assert_eq!(users(&gzip.concat()), want);
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
    fn a_message_is_nested() {
        let user = "From x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==crun-qemu-0==\"\n\nbody\n";
        let merged = String::from_utf8(merge(user.as_bytes(), "#cloud-config\n").unwrap()).unwrap();
        let start = "Content-Type: multipart/mixed; boundary=\"==crun-qemu-1==\"\nMIME-Version: 1.0\n\n\
                     --==crun-qemu-1==\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==crun-qemu-0==\"\n";
        assert!(merged.starts_with(start), "{merged}");
    }

    #[test]
    fn a_boundary_is_found_whatever_is_used() {
        for (theirs, want) in [("", 0), ("==crun-qemu-1==", 0), ("==crun-qemu-0==\n==crun-qemu-00002==", 1)] {
            assert_eq!(boundary(theirs.as_bytes()), format!("==crun-qemu-{want}=="), "{theirs}");
        }
        // A look at all of it for each of them would take hours.
        let many: String = (0..400_000).map(|i| format!("==crun-qemu-{i}==")).collect();
        assert_eq!(boundary(many.as_bytes()), "==crun-qemu-400000==");
    }

    #[test]
    fn unknown_kinds_are_refused() {
        for bad in ["users: []\n", "hello", "\u{feff}#cloud-config\n", "a: b\n\ncontent-type: x\n"] {
            assert!(merge(bad.as_bytes(), "").is_err(), "{bad}");
        }
        let error = merge(b"Content-Type: text/plain\n\n\xff", "").unwrap_err().to_string();
        assert!(error.contains("a MIME message that is not UTF-8"), "{error}");
        assert!(merge(&[0x1f, 0x8b, 8], "").is_err());
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; LARGEST + 1], 6);
        assert!(merge(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bomb].concat(), "").is_err());
        assert_eq!(merge(b"\n", "ours").unwrap(), b"ours");
    }
}
