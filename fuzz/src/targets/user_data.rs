//! User-data of whatever kind: both sides' are in the message, each whole.

use base64ct::{Base64, Encoding};
use crun_qemu::first_boot::user_data::{merge, users};

use super::told;

const OWN: &str = "#cloud-config\n{\"a\": [\"--b\"]}\n";

pub fn run(data: &[u8]) {
    for name in users(data) {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
        assert!(plain && !name.is_empty() && name.len() <= 32 && !name.starts_with(['-', '.']), "{name:?}");
    }
    let Some(message) = told(merge(data, OWN)) else { return };
    if message == OWN.as_bytes() {
        assert!(data.trim_ascii().is_empty() || data.starts_with(&[0x1f, 0x8b]));
        return;
    }
    let [theirs, ours] = parts(&message);
    assert!(ours.0.starts_with(b"Content-Type: text/cloud-config;"));
    assert_eq!(decoded(ours.1), OWN.as_bytes());
    if theirs.0.starts_with(
        b"Content-Type: text/plain; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64",
    ) && !data.starts_with(b"Content-")
    {
        let unpacked = decoded(theirs.1);
        assert!(unpacked == data || data.starts_with(&[0x1f, 0x8b]));
    } else {
        // A message as it came.
        let all = [theirs.0, b"\n\n", theirs.1].concat();
        assert!(data.ends_with(&all) || data.starts_with(&[0x1f, 0x8b]) || theirs.1.is_empty());
    }
}

type Part<'a> = (&'a [u8], &'a [u8]);

/// The two parts of a message as RFC 2046 has them, each as its headers and its body.
fn parts(message: &[u8]) -> [Part<'_>; 2] {
    let (head, body) = split(message, b"\n\n").expect("headers");
    let (_, rest) = split(head, b"boundary=\"").expect("boundary");
    let (boundary, _) = split(rest, b"\"").expect("boundary's end");
    let delimiter = [b"--", boundary].concat();
    // At a line's start, the whole message over: the first, the second, the end.
    let starts: Vec<usize> = (0..body.len())
        .filter(|&i| body[i..].starts_with(&delimiter) && (i == 0 || matches!(body[i - 1], b'\n' | b'\r')))
        .collect();
    let [first, second, end] = starts[..] else { panic!("{} delimiters", starts.len()) };
    assert_eq!(&body[end..], [&delimiter[..], b"--\n"].concat());
    let part = |from: usize, to: usize| {
        let part = &body[from + delimiter.len() + 1..to - 1];
        split(part, b"\n\n").unwrap_or((part, b""))
    };
    [part(first, second), part(second, end)]
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<Part<'a>> {
    let i = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..i], &bytes[i + at.len()..]))
}

fn decoded(body: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\n').collect();
    Base64::decode_vec(std::str::from_utf8(&text).expect("base64")).expect("base64")
}
