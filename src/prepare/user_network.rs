//! Whether QEMU has its user network, which needs nothing from the host.

use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::plan::{Network, Plan};

/// Some distributions build QEMU without libslirp (RHEL and its like), and libvirt finds out only after the start.
///
/// # Errors
/// The plan needs it, and QEMU lacks it or cannot be run.
pub fn check(plan: &Plan) -> Result<()> {
    if matches!(plan.network, Network::Tap { .. }) {
        return Ok(());
    }
    let mut qemu = Command::new(&plan.emulator);
    // QEMU prints one name per line and exits.
    qemu.args(["-nodefaults", "-no-user-config", "-netdev", "help"]).env_clear().current_dir("/").stdin(Stdio::null());
    let said = qemu.output().context(&plan.emulator)?.stdout;
    if String::from_utf8_lossy(&said).lines().any(|line| line.trim() == "user") {
        return Ok(());
    }
    // The warning that comes with such a network says why it is to be one.
    let why = plan.warnings.iter().find(|warning| warning.what() == "network").map(Error::why);
    let why = why.unwrap_or("the container has none that a VM can use");
    Err(Error::new("network", format!("{why}, and this host's QEMU is built without a user network"))
        .hint("give the container a network of its own, or a pod's"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plan::tests::{BIOS_IMAGE, ID, host, request};
    use crate::request::NetworkOwner;

    #[test]
    fn qemu_is_asked_where_it_matters() {
        let dir = tempfile::tempdir().unwrap();
        let with = |whose: NetworkOwner, said: &str| {
            let emulator = dir.path().join("qemu");
            let script =
                format!("#!/bin/sh\n[ \"$*\" = '-nodefaults -no-user-config -netdev help' ] && printf '{said}'\n");
            fs::write(&emulator, script).unwrap();
            fs::set_permissions(&emulator, fs::Permissions::from_mode(0o755)).unwrap();
            let (mut request, mut host) = (request(), host());
            request.network = whose;
            host.emulator = emulator.display().to_string();
            let plan = crate::plan::plan(ID, &request, &host, BIOS_IMAGE, &Default::default()).unwrap();
            check(&plan).map_err(|e| e.to_string())
        };
        let all = "Available netdev backend types:\\nsocket\\nhubport\\ntap\\nuser\\nvhost-user\\n";
        let red_hats = "Available netdev backend types:\\nsocket\\nhubport\\ntap\\nvhost-user\\n";
        let lacks = "network: the container shares one, and this host's QEMU is built without a user network \
                     (give the container a network of its own, or a pod's)";
        assert_eq!(with(NetworkOwner::Foreign, all), Ok(()));
        assert_eq!(with(NetworkOwner::Foreign, red_hats), Err(lacks.to_string()));
        assert_eq!(with(NetworkOwner::Own, red_hats), Ok(()));
    }
}
