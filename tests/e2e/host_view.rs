//! podman on a host that looks different to it, and to nobody else: tests run side by side.

use std::path::Path;
use std::process::Command;

/// Root's podman, and what it starts, with `source` mounted over `target`; complete but for podman's arguments.
pub fn podman_with(source: &Path, target: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec podman "$@""#]).arg(source).arg(target);
    command
}
