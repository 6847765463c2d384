//! The processes that serve the container's directories to the guest, one each.

use std::fs::{self, DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::{Ids, Virtiofs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::privileges;

/// All virtiofsd processes.
#[derive(Default)]
pub struct Daemons(Vec<Daemon>);

struct Daemon {
    pid: Pid,
    target: String,
    log: PathBuf,
}

/// The two programs of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// QEMU's own, up to version 7.2.
    C,
    /// Its successor.
    Rust,
}

impl Daemons {
    /// Starts one for each directory. Each listens already: QEMU need not wait for it.
    ///
    /// # Errors
    /// When one cannot be started; those that were end with this process.
    pub fn start(directories: &[Virtiofs], qemu: Option<Ids>) -> Result<Self> {
        if directories.is_empty() {
            return Ok(Self::default());
        }
        let dir = Path::new(paths::VIRTIOFS);
        DirBuilder::new().mode(0o700).recursive(true).create(dir).context(dir.display())?;
        privileges::let_through(dir, qemu)?;
        // Each file that the guest has looked up costs virtiofsd a descriptor.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("limit of open files")?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("limit of open files")?;
        let kind = kind(&version()?);
        let capabilities = modcaps(privileges::permitted()?);
        directories
            .iter()
            .map(|directory| Daemon::start(directory, kind, &capabilities, qemu))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Their processes.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.0.iter().map(|daemon| daemon.pid)
    }

    /// The error for a virtiofsd that ended, unless it ended because QEMU did.
    pub fn exit_error(&self, pid: Pid, status: &WaitStatus) -> Option<Error> {
        let daemon = self.0.iter().find(|daemon| daemon.pid == pid)?;
        let why = match status {
            WaitStatus::Exited(_, 0) => return None,
            WaitStatus::Exited(_, status) => format!("it ended with status {status}{}", daemon.log_tail()),
            WaitStatus::Signaled(_, signal, _) => format!("it was killed by {signal}"),
            _ => return None,
        };
        let what = format!("virtiofsd of {}", daemon.target);
        Some(Error::new(what, why))
    }

    /// Ends them: where other processes live on, they do not go with this one.
    pub fn end(&self) {
        // Daemons that have already exited are ignored.
        self.pids().for_each(|pid| _ = kill(pid, Signal::SIGKILL));
    }
}

impl Daemon {
    /// The last line that it said, behind a colon.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().rfind(|line| !line.trim().is_empty());
        said.map(|line| format!(": {}", line.trim())).unwrap_or_default()
    }

    fn start(directory: &Virtiofs, kind: Kind, modcaps: &str, qemu: Option<Ids>) -> Result<Self> {
        let what = || format!("virtiofsd of {}", directory.target);
        let listener = UnixListener::bind(&directory.socket).context(what())?;
        privileges::let_in(&directory.socket, qemu)?;
        let name = directory.socket.with_extension("log");
        let log = Path::new(paths::LOGS).join(name.file_name().unwrap_or_default());
        let output = File::options().write(true).create(true).truncate(true).mode(0o600).open(&log).context(what())?;
        let mut command = Command::new(paths::VIRTIOFSD);
        command.args(arguments(kind, &directory.dir, modcaps)).env_clear().current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command.stdout(output.try_clone().context(what())?).stderr(output);
        let child: Child = command.spawn().context(what())?;
        Ok(Self { pid: Pid::from_raw(child.id() as i32), target: directory.target.clone(), log })
    }
}

/// Version that the program prints.
///
/// # Errors
/// When it does not run.
pub fn version() -> Result<String> {
    let output = Command::new(paths::VIRTIOFSD).arg("--version").env_clear().output().context("virtiofsd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The C version prints "virtiofsd version 7.2.0", the Rust version "virtiofsd 1.10.0".
fn kind(version: &str) -> Kind {
    if version.contains(" version ") { Kind::C } else { Kind::Rust }
}

/// The listening socket is standard input. `dir` is one of our paths, without a comma.
fn arguments(kind: Kind, dir: &Path, modcaps: &str) -> Vec<String> {
    let dir = dir.display();
    let mut arguments: Vec<String> = ["--fd=0", "--rlimit-nofile=0"].map(String::from).into();
    arguments.extend(match kind {
        Kind::C => {
            let modcaps = if modcaps.is_empty() { String::new() } else { format!(",modcaps={modcaps}") };
            vec!["-f".into(), "-o".into(), format!("source={dir},sandbox=chroot{modcaps}")]
        }
        Kind::Rust => {
            let mut arguments = vec![format!("--shared-dir={dir}"), "--sandbox=chroot".into()];
            // File handles need a capability that containers do not have.
            arguments.push("--inode-file-handles=never".into());
            if !modcaps.is_empty() {
                arguments.push(format!("--modcaps={modcaps}"));
            }
            arguments
        }
    });
    arguments
}

/// Capabilities that the program keeps, with their bits in `linux/capability.h`. It requires all of them.
const KEEPS: &[(u32, &str)] = &[
    (0, "chown"),
    (1, "dac_override"),
    (3, "fowner"),
    (4, "fsetid"),
    (6, "setgid"),
    (7, "setuid"),
    (27, "mknod"),
    (31, "setfcap"),
];

/// Leaves out those that the container does not have.
fn modcaps(permitted: u64) -> String {
    let missing = KEEPS.iter().filter(|(bit, _)| permitted >> bit & 1 == 0);
    missing.map(|(_, name)| format!("-{name}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs() {
        let c = kind("virtiofsd version 7.2.22 (Debian 1:7.2)");
        assert_eq!((c, kind("virtiofsd 1.14.0")), (Kind::C, Kind::Rust));
        let words = |kind, modcaps| arguments(kind, Path::new("/d"), modcaps)[2..].join(" ");
        assert_eq!(words(Kind::C, "-mknod"), "-f -o source=/d,sandbox=chroot,modcaps=-mknod");
        assert_eq!(words(Kind::C, ""), "-f -o source=/d,sandbox=chroot");
        assert_eq!(
            words(Kind::Rust, "-mknod:-chown"),
            "--shared-dir=/d --sandbox=chroot --inode-file-handles=never --modcaps=-mknod:-chown"
        );
    }

    #[test]
    fn capabilities_that_the_container_lacks() {
        // podman's default set.
        assert_eq!(modcaps(0x8004_05fb), "-mknod");
        assert_eq!(modcaps(u64::MAX), "");
        assert_eq!(modcaps(0x8004_05fa), "-chown:-mknod");
    }
}
