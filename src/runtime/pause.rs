//! podman's pause container, which holds a pod's namespaces and runs under the runtime of the pod's containers. Nothing
//! in its configuration marks it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crun_qemu::engine::{PAUSE_ORIGINALS, PAUSE_PROGRAM};
use crun_qemu::host::rootfs::Root;
use serde_json::{Value, json};

/// Whether a configuration is that of a pause container; `root` is the container's root. An image can imitate one, so
/// the program must be the host's own: to run the host's program is all that an image gains.
pub fn is_pause(config: &Value, root: &Path) -> bool {
    config["process"]["args"] == json!([PAUSE_PROGRAM, "-P"])
        && PAUSE_ORIGINALS.iter().any(|original| is_bound(config, original) || is_copy(root, original).unwrap_or(false))
}

fn is_bound(config: &Value, original: &str) -> bool {
    let mounts = config["mounts"].as_array().into_iter().flatten();
    mounts.filter(|mount| mount["destination"] == PAUSE_PROGRAM).any(|mount| mount["source"] == original)
}

fn is_copy(root: &Path, original: &str) -> Option<bool> {
    let original = fs::read(original).ok()?;
    let copy = Root::open(root).ok()?.open_recorded(Path::new(PAUSE_PROGRAM)).ok()?;
    Some(has_content(copy, &original))
}

fn has_content(file: File, content: &[u8]) -> bool {
    let mut found = Vec::new();
    // With one byte more, a longer file differs from an equal one.
    file.take(content.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_program_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let args = |args: &[&str]| json!({"process": {"args": args}});
        let original = PAUSE_ORIGINALS.iter().find_map(|path| fs::read(path).ok());
        for (content, want) in [(original.clone(), original.is_some()), (Some(b"\x7fELF evil".to_vec()), false)] {
            fs::write(dir.path().join("catatonit"), content.unwrap_or_default()).unwrap();
            assert_eq!(is_pause(&args(&[PAUSE_PROGRAM, "-P"]), dir.path()), want);
            assert!(!is_pause(&args(&[PAUSE_PROGRAM, "-P", ""]), dir.path()));
            assert!(!is_pause(&args(&["/sbin/init"]), dir.path()));
        }
        for (source, want) in [(PAUSE_ORIGINALS[0], true), ("/home/me/catatonit", false)] {
            let mut config = args(&[PAUSE_PROGRAM, "-P"]);
            config["mounts"] = json!([{"destination": PAUSE_PROGRAM, "source": source, "type": "bind"}]);
            assert_eq!(is_pause(&config, Path::new("/nowhere")), want);
        }
    }
}
