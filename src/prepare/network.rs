//! Configuration of the network set-up, and the set-up step itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::PRIVATE_DIR;
use super::private_dir::PrivateDir;
use crate::error::{Context, Result};
use crate::handoff::paths;
use crate::network::{self, Ports, fd_store, names};
use crate::plan::{Network, Plan};
use crate::request::{self, Request};

/// The tap's configuration.
const NETWORK: &str = "network.json";
/// Reason for a failure of the hook, which has no other way to report it.
const FAILURE: &str = "network-failure";
/// Directory of the fd store's socket.
const FD_STORE: &str = "fd-store";

/// "Shared" may turn out to be the host's namespace, which is the one that this process is in.
pub fn detect_host_netns(request: &mut Request) {
    let inode = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino())).ok();
    if let request::NetworkOwner::Shared(path) = &request.network
        && inode(path).is_some_and(|theirs| Some(theirs) == inode(Path::new("/proc/self/ns/net")))
    {
        request.network = request::NetworkOwner::Foreign;
    }
}

/// Writes the configuration, and makes the directory of the fd store's socket if an fd store may be needed: in a
/// namespace of the VM's own that depends on IPv6. The directory is not in the container's root, which may be read-only
/// by then.
pub fn write(dir: &PrivateDir, plan: &Plan, request: &Request) -> Result<Option<PathBuf>> {
    let _ = fs::remove_file(dir.join(FAILURE));
    let Network::Tap { name, ports, .. } = &plan.network else {
        // An earlier start of the same container may have had a tap.
        let _ = fs::remove_file(dir.join(NETWORK));
        return Ok(None);
    };
    let resolvers = names::resolvers(&engines_file(request, "/etc/resolv.conf"));
    let network = network::TapConfig::new(name, resolvers, ports.clone());
    dir.write(NETWORK, 0o600, &serde_json::to_vec(&network).context(NETWORK)?)?;
    dir.make_dir(FD_STORE)?;
    dir.give(&dir.join(FD_STORE))?;
    Ok(Some(dir.join(FD_STORE)))
}

/// More than an engine writes into such a file, bytes.
const LARGEST: u64 = 1 << 20;

/// Text that the engine wrote for the container's `/etc/hosts` or `/etc/resolv.conf`; empty without such a mount.
pub fn engines_file(request: &Request, destination: &str) -> String {
    let mount = request.mounts.iter().find(|m| m.destination() == Path::new(destination));
    mount.and_then(|m| read_text(m.source().as_ref()?)).unwrap_or_default()
}

/// A regular file that is not too large, if it is one: the mount may be the user's, of anything.
fn read_text(path: &Path) -> Option<String> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let mut text = String::new();
    (metadata.is_file() && metadata.len() <= LARGEST).then(|| file.take(LARGEST).read_to_string(&mut text).ok())??;
    Some(text)
}

/// Sets up the guest's network; the caller is in the container's network namespace with CAP_NET_ADMIN over it. `first`
/// is the container's first process, the supervisor to be.
pub fn network(bundle: &Path, first: Pid) -> Result<()> {
    let dir = bundle.join(PRIVATE_DIR);
    let network: network::TapConfig = match fs::read_to_string(dir.join(NETWORK)) {
        Ok(text) => serde_json::from_str(&text).context(NETWORK)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).context(NETWORK),
    };
    match network::set_up(&network)? {
        // In a namespace of the VM's own only IPv6 needs descriptors, and the VM also works without IPv6.
        Some(held) => match fd_store::start(held, &dir.join(FD_STORE), paths::FD_STORE_SOCKET, first) {
            Err(_) if network.ports == Ports::All => Ok(()),
            result => result,
        },
        None => Ok(()),
    }
}

/// The same for a hook, whose errors crun does not pass on: they are recorded for [`failure`].
pub fn network_or_note(bundle: &Path, first: Pid) -> Result<()> {
    network(bundle, first).inspect_err(|e| {
        // The error also goes to stderr, wherever that leads.
        let _ = fs::write(bundle.join(PRIVATE_DIR).join(FAILURE), e.to_string());
    })
}

/// The failure that the hook recorded.
pub fn failure(bundle: &Path) -> Option<String> {
    fs::read_to_string(bundle.join(PRIVATE_DIR).join(FAILURE)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_engines_files_no_more_is_read_than_an_engine_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::File::create(path("huge")).unwrap().set_len(LARGEST + 1).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_text(&path("hosts")).as_deref(), Some("127.0.0.1 localhost\n"));
        for path in [path("huge"), path("fifo"), "/dev/zero".into(), path("nothing")] {
            assert_eq!(read_text(&path), None, "{}", path.display());
        }
    }
}
