//! The user's user-data and ours beside it, as one MIME message.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;

use base64ct::{Base64, Encoding};
use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

mod users;

pub use users::users;

/// Name of the file.
const USER_DATA: &str = "user-data";
/// Most bytes that gzip data may unpack to.
const LARGEST: usize = 16 << 20;
/// Magic of gzip data.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Prefixes by which cloud-init recognises each kind.
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

/// Builds the message: the user's part first, ours last.
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

/// Checks that `data`, the content of the file `name` of `--cloud-init`, is of a kind that cloud-init knows. Errors do
/// not quote the content.
///
/// # Errors
/// It is not.
pub fn check(name: &str, data: &[u8]) -> Result<()> {
    recognized(name, &unpacked(name, data)?).map(drop)
}

/// Kind of data, as cloud-init sees it.
enum Kind<'a> {
    Empty,
    /// A MIME message.
    Message(&'a [u8]),
    /// A single document; its first line determines its kind.
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

/// The user's own MIME message, without the line that separates messages in a mail folder.
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

/// A part in base64, which preserves every byte. For the type text/plain, cloud-init detects the kind itself.
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

/// A boundary that the user's message does not use: the first unused number. Found in one pass, because a message may
/// use very many.
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

/// Unpacks every member of the gzip data, as cloud-init does.
fn gunzip(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    match MultiGzDecoder::new(bytes).take(LARGEST as u64 + 1).read_to_end(&mut data) {
        Ok(len) if len <= LARGEST => Ok(data),
        _ => {
            let why = "gzip data that cannot be unpacked, or is larger than 16 MiB";
            Err(Error::new(format!("--cloud-init {name}"), why))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().filename("name").write(Vec::new(), Compression::default());
        encoder.write_all(data).and_then(|()| encoder.finish()).unwrap()
    }

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
        let whole = gzip(b"#!/bin/sh\n");
        let members = [gzip(b"#!/bin"), gzip(b"/sh\n")].concat();
        for user in [b"#!/bin/sh\n".as_slice(), &whole, &members] {
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
        assert_eq!(merge(b"\n", "ours").unwrap(), b"ours");
    }

    #[test]
    fn damaged_and_too_large_gzip_data_is_refused() {
        let script = gzip(b"#!/bin/sh\n");
        let mut wrong_crc = script.clone();
        let crc = wrong_crc.len() - 8;
        wrong_crc[crc] ^= 1;
        let second = [&script[..], &wrong_crc].concat();
        let cut = &script[..script.len() - 1];
        let (half, rest) = (vec![b'#'; LARGEST / 2], vec![b'#'; LARGEST / 2 + 1]);
        let bombs = [gzip(&[&half[..], &rest].concat()), [gzip(&half), gzip(&rest)].concat()];
        for bad in [&script[..3], cut, &wrong_crc, &second, &bombs[0], &bombs[1]] {
            let error = merge(bad, "").unwrap_err().to_string();
            let want = "--cloud-init user-data: gzip data that cannot be unpacked, or is larger than 16 MiB";
            assert_eq!(error, want);
        }
    }
}
