//! `kill`: the kernel drops signals for which the first process of a PID namespace has no handler, so a signal is held
//! back until the supervisor listens.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crun_qemu::crun::state;

/// A supervisor takes some hundredths of a second; what takes longer than this has other troubles.
const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// `SIGTERM`'s bit in a mask of the kernel's.
const SIGTERM: u64 = 1 << (libc::SIGTERM - 1);

/// Waits until the supervisor of the container `id`, if it has one that was told to start, listens. If that cannot be
/// determined, there is no wait.
pub fn wait_for_listener(states: Option<&Path>, id: &str) {
    let dir = state::dir(states, id);
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline && is_deaf(&dir) == Some(true) {
        sleep(PAUSE);
    }
}

/// `None`: there is no supervisor, or none that was told to start yet.
fn is_deaf(dir: &Path) -> Option<bool> {
    let state = state::read(dir).ok()??;
    let is_vm = Path::new(state["bundle"].as_str()?).join("crun-qemu").is_dir();
    // crun removes the fifo when it lets the container's process continue.
    if !is_vm || dir.join("exec.fifo").exists() {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"].as_u64()?)).ok()?;
    blocks_sigterm(&status).map(|blocked| !blocked)
}

/// A process that reads signals from a descriptor has them blocked. `None`: the process has ended.
fn blocks_sigterm(status: &str) -> Option<bool> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:")?.starts_with(['Z', 'X']) {
        return None;
    }
    Some(u64::from_str_radix(field("SigBlk:")?, 16).ok()? & SIGTERM != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens() {
        for (status, want) in [
            ("State:\tS (sleeping)\nSigBlk:\t0000000000000000\n", Some(false)),
            ("State:\tS (sleeping)\nSigBlk:\tfffffffe7ffbfeff\n", Some(true)),
            ("State:\tZ (zombie)\nSigBlk:\t0000000000000000\n", None),
            ("", None),
        ] {
            assert_eq!(blocks_sigterm(status), want, "{status}");
        }
    }

    #[test]
    fn only_a_vm_that_was_told_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert_eq!(is_deaf(dir.path()), None, "no container");
        let state = serde_json::json!({"pid": std::process::id(), "bundle": dir.path()});
        fs::write(path("status"), state.to_string()).unwrap();
        assert_eq!(is_deaf(dir.path()), None, "no VM");
        fs::create_dir(path("crun-qemu")).unwrap();
        assert_eq!(is_deaf(dir.path()), Some(true));
        fs::write(path("exec.fifo"), "").unwrap();
        assert_eq!(is_deaf(dir.path()), None, "not started");
    }
}
