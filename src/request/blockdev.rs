//! What `--blockdev` takes.

use std::path::{Component, Path};

use crate::error::{Error, Result};
use crate::host::image::Format;

const OPTION: &str = "--blockdev";
const HINT: &str = "source=PATH,target=PATH,format=raw|qcow2[,readonly=on]";

/// A disk image that becomes a disk of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blockdev {
    /// Where the engine puts the file in the container: the destination of a `-v FILE:PATH`.
    pub source: String,
    /// Where the guest finds the disk.
    pub target: String,
    /// Its format.
    pub format: Format,
    /// The guest cannot write.
    pub read_only: bool,
}

/// Reads `source=…,target=…,format=…[,readonly=on|off]`, in any order; a comma in a value is doubled.
///
/// # Errors
/// A key that is unknown, missing or there twice, and a value that is none.
pub fn parse(text: &str) -> Result<Blockdev> {
    let (mut source, mut target, mut format, mut read_only) = (None, None, None, None);
    for pair in split(text) {
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong(format!("\"{pair}\" is not KEY=VALUE")))?;
        let twice = match key {
            "source" => source.replace(path(key, value)?).is_some(),
            "target" => target.replace(path(key, value)?).is_some(),
            "format" => format.replace(value.parse::<Format>().map_err(|_| no_format(value))?).is_some(),
            "readonly" => read_only.replace(switch(value)?).is_some(),
            _ => return Err(wrong(format!("\"{key}\" is unknown"))),
        };
        if twice {
            return Err(wrong(format!("{key} is there twice")));
        }
    }
    let missing = |key: &str| wrong(format!("{key} is missing"));
    Ok(Blockdev {
        source: source.ok_or_else(|| missing("source"))?,
        target: target.ok_or_else(|| missing("target"))?,
        format: format.ok_or_else(|| missing("format"))?,
        read_only: read_only.unwrap_or(false),
    })
}

fn wrong(why: String) -> Error {
    Error::new(OPTION, why).hint(HINT)
}

fn no_format(value: &str) -> Error {
    Error::new(OPTION, format!("format \"{value}\" is neither raw nor qcow2")).hint("qemu-img convert makes one of it")
}

fn switch(value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong(format!("readonly \"{value}\" is neither on nor off"))),
    }
}

fn path(key: &str, value: &str) -> Result<String> {
    let path = Path::new(value);
    if !path.is_absolute() {
        return Err(wrong(format!("{key} \"{value}\" is not an absolute path")));
    }
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match plain && path.components().nth(1).is_some() {
        // As engines write their mounts' destinations: without doubled and trailing slashes.
        true => Ok(path.components().collect::<std::path::PathBuf>().to_string_lossy().into_owned()),
        false => Err(wrong(format!("{key} \"{value}\" is not the path of something below /"))),
    }
}

/// The parts between single commas, with the doubled ones made single.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ',' if rest.next_if_eq(&',').is_none() => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_any_order_and_commas() {
        let got = parse("format=qcow2,readonly=on,target=/dev/a,,b,source=//s//x/").unwrap();
        let want =
            Blockdev { source: "/s/x".into(), target: "/dev/a,b".into(), format: Format::Qcow2, read_only: true };
        assert_eq!(got, want);
        assert!(!parse("source=/s,target=/t,format=raw").unwrap().read_only);
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("", "\"\" is not KEY=VALUE"),
            ("source=/s,target=/t,format=raw,", "\"\" is not KEY=VALUE"),
            ("source=/s,target=/t", "format is missing"),
            ("target=/t,format=raw", "source is missing"),
            ("source=/s,format=raw", "target is missing"),
            ("source=/s,target=/t,format=raw,target=/u", "target is there twice"),
            ("source=/s,target=t,format=raw", "target \"t\" is not an absolute path"),
            ("source=/s,target=/,format=raw", "target \"/\" is not the path of something below /"),
            ("source=/s/../t,target=/t,format=raw", "source \"/s/../t\" is not the path of something below /"),
            ("source=/s,target=/t,format=raw,cache=none", "\"cache\" is unknown"),
            ("source=/s,target=/t,format=raw,readonly=yes", "readonly \"yes\" is neither on nor off"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("--blockdev: {why} ({HINT})"), "{text}");
        }
        assert_eq!(
            parse("source=/s,target=/t,format=vmdk").unwrap_err().to_string(),
            "--blockdev: format \"vmdk\" is neither raw nor qcow2 (qemu-img convert makes one of it)"
        );
    }
}
