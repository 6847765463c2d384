//! Values of options.

use super::options::FirmwareChoice;
use crate::error::{Error, Result};

pub(super) fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::new(format!("--{name}"), format!("\"{value}\" is neither true nor false"))),
    }
}

pub(super) fn firmware(value: &str) -> Result<FirmwareChoice> {
    match value {
        "auto" => Ok(FirmwareChoice::Auto),
        "bios" => Ok(FirmwareChoice::Bios),
        "uefi" => Ok(FirmwareChoice::Uefi),
        _ => Err(Error::new("--firmware", format!("\"{value}\" is unknown")).hint("auto, bios or uefi")),
    }
}

pub(super) fn timeout(value: &str) -> Result<u64> {
    let seconds = value.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| Error::new("--timeout", format!("\"{value}\" is not a number of seconds from 1 to 86400")))
}

/// A number of bytes, with an optional unit letter: powers of 1024, in either case.
pub(super) fn bytes(name: &str, value: &str) -> Result<u64> {
    let unit = value.bytes().last().and_then(|last| b"KMGT".iter().position(|u| *u == last.to_ascii_uppercase()));
    let (digits, shift) = unit.map_or((value, 0), |n| (&value[..value.len() - 1], 10 * (n as u32 + 1)));
    // parse() also accepts a sign.
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let bytes = number.and_then(|n| n.checked_mul(1 << shift)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| {
        Error::new(format!("--{name}"), format!("\"{value}\" is not a size"))
            .hint("a number and K, M, G or T, such as 20G")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("512", Some(512)),
            ("1k", Some(1 << 10)),
            ("3M", Some(3 << 20)),
            ("20G", Some(20 << 30)),
            ("2t", Some(2 << 40)),
            ("16777216T", None),
            ("0", None),
            ("", None),
            ("G", None),
            ("+1G", None),
            ("1.5G", None),
            ("1GB", None),
            ("1 G", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(bytes("disk-size", text).ok(), want, "{text:?}");
        }
    }
}
