//! podman's pause container, which holds the namespaces of a pod and is given the runtime of the pod's containers. It
//! says of itself nowhere that it is one.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crun_qemu::host::rootfs::Root;
use serde_json::{Value, json};

/// What it runs.
const PROGRAM: &str = "/catatonit";
/// Where podman takes the program from.
const ORIGINALS: &[&str] = &["/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit", "/usr/bin/catatonit"];

/// Whether it is one, in a bundle whose root is at `root`. An image can ask to be taken for one, so what it runs has to
/// be the host's own: to do as the host's program does is all that it gains.
pub fn is_pause(config: &Value, root: &Path) -> bool {
    config["process"]["args"] == json!([PROGRAM, "-P"])
        && ORIGINALS.iter().any(|original| is_bound(config, original) || is_copy(root, original).unwrap_or(false))
}

fn is_bound(config: &Value, original: &str) -> bool {
    let mounts = config["mounts"].as_array().into_iter().flatten();
    mounts.filter(|mount| mount["destination"] == PROGRAM).any(|mount| mount["source"] == original)
}

fn is_copy(root: &Path, original: &str) -> Option<bool> {
    let original = fs::read(original).ok()?;
    let copy = Root::open(root).ok()?.open_recorded(Path::new(PROGRAM)).ok()?;
    Some(has_content(copy, &original))
}

fn has_content(file: File, content: &[u8]) -> bool {
    let mut found = Vec::new();
    // One byte more tells a longer file from an equal one.
    file.take(content.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_program_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let args = |args: &[&str]| json!({"process": {"args": args}});
        let original = ORIGINALS.iter().find_map(|path| fs::read(path).ok());
        for (content, want) in [(original.clone(), original.is_some()), (Some(b"\x7fELF evil".to_vec()), false)] {
            fs::write(dir.path().join("catatonit"), content.unwrap_or_default()).unwrap();
            assert_eq!(is_pause(&args(&[PROGRAM, "-P"]), dir.path()), want);
            assert!(!is_pause(&args(&[PROGRAM, "-P", ""]), dir.path()));
            assert!(!is_pause(&args(&["/sbin/init"]), dir.path()));
        }
        for (source, want) in [(ORIGINALS[0], true), ("/home/me/catatonit", false)] {
            let mut config = args(&[PROGRAM, "-P"]);
            config["mounts"] = json!([{"destination": PROGRAM, "source": source, "type": "bind"}]);
            assert_eq!(is_pause(&config, Path::new("/nowhere")), want);
        }
    }
}
