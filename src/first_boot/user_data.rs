//! The user's user-data and ours beside it, as one MIME message.

use base64ct::{Base64, Encoding};
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::error::{Error, Result};

const WHAT: &str = "--cloud-init user-data";
/// How far gzip may unpack.
const LARGEST: usize = 16 << 20;
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
/// When the user's is of no kind that cloud-init knows.
pub fn merge(user: &[u8], own: &str) -> Result<Vec<u8>> {
    let unpacked;
    let user = if user.starts_with(&[0x1f, 0x8b]) {
        unpacked = gunzip(user)?;
        &unpacked
    } else {
        user
    };
    if user.trim_ascii().is_empty() {
        return Ok(own.as_bytes().to_vec());
    }
    let own = part("text/cloud-config", &format!("Merge-Type: {POLICY}\n"), own.as_bytes());
    let theirs = match message(user) {
        // Nested as it is: cloud-init walks through all levels.
        Some(message) => message.to_vec(),
        None if KINDS.iter().any(|kind| user.starts_with(kind.as_bytes())) => part("text/plain", "", user),
        None => {
            return Err(Error::new(WHAT, "of no kind that cloud-init knows")
                .hint("it begins with #cloud-config, #!, ## template: jinja, #include, or a MIME header"));
        }
    };
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

/// One that the user's message does not use.
fn boundary(theirs: &[u8]) -> String {
    let used = |b: &String| theirs.windows(b.len()).any(|w| w == b.as_bytes());
    (0..).map(|i: u32| format!("==crun-qemu-{i}==")).find(|b| !used(b)).unwrap_or_default()
}

/// RFC 1952, one member.
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::new(WHAT, "gzip data that cannot be unpacked, or is larger than 16 MiB");
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
    fn a_message_is_nested() {
        let user = "From x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==crun-qemu-0==\"\n\nbody\n";
        let merged = String::from_utf8(merge(user.as_bytes(), "#cloud-config\n").unwrap()).unwrap();
        let start = "Content-Type: multipart/mixed; boundary=\"==crun-qemu-1==\"\nMIME-Version: 1.0\n\n\
                     --==crun-qemu-1==\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==crun-qemu-0==\"\n";
        assert!(merged.starts_with(start), "{merged}");
    }

    #[test]
    fn unknown_kinds_are_refused() {
        for bad in ["users: []\n", "hello", "\u{feff}#cloud-config\n", "a: b\n\ncontent-type: x\n"] {
            assert!(merge(bad.as_bytes(), "").is_err(), "{bad}");
        }
        assert!(merge(&[0x1f, 0x8b, 8], "").is_err());
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; LARGEST + 1], 6);
        assert!(merge(&[&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bomb].concat(), "").is_err());
        assert_eq!(merge(b"\n", "ours").unwrap(), b"ours");
    }
}
