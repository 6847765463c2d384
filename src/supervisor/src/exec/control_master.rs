//! ssh control masters: connections to the guest that outlive the exec that made them.
//!
//! sshd allows ten sessions per connection by default, so each user has a row of masters. The first master that accepts
//! the session gets it; a new one is added at the end of the row.
//!
//! dropbear gets a connection for each session: if a program ends while another session is being opened, its versions
//! 2022.82 to 2024.86 close the connection with all of its sessions ("Failed assertion … sent_close").

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::liveness::lock_file;
use super::login::Refusal;
use super::mux::{Client, Opened, Session};
use super::{timed, wait_sshd};
use crate::status::Mark;
use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::paths;

/// Marker file of a guest that has accepted a login; contains its sshd's version.
const ENTERED: &str = "entered";
/// Most masters of one user: with ten sessions on each, far more than a guest needs.
const ROW: usize = 64;
/// Limit for an answer from a master, which answers at once whatever the guest does, unless it is blocked by a terminal
/// that no process reads.
const ANSWER: Duration = Duration::from_secs(10);
/// A guest that has just begun to answer may not have its users yet, or keep them out until it has booted
/// (pam_nologin).
const SETTLING: Duration = Duration::from_secs(30);
/// Pause between attempts in that time: sshd penalises sources with many failures (PerSourcePenalties).
const SETTLING_PAUSE: Duration = Duration::from_secs(4);

/// The guest and one of its users.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Address of the guest's sshd.
    pub address: SocketAddr,
    /// User in the guest.
    pub user: String,
    /// The private key's file.
    pub key: PathBuf,
    /// Directory of sockets and known hosts, private, on a tmpfs.
    pub dir: PathBuf,
    /// When the wait for it began.
    pub since: Instant,
    /// End of the wait, whatever the guest does: by then the session must be open.
    pub deadline: Instant,
}

impl Guest {
    /// Runs `command` in the guest, over the first connection with room for it.
    ///
    /// # Errors
    /// The guest accepts no login; the command was not run.
    pub fn open(&self, command: &[u8], term: Option<&[u8]>, stdio: [BorrowedFd<'_>; 3]) -> Result<Session> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).context(self.dir.display())?;
        for i in 0..ROW {
            let socket = self.socket(i);
            // Twice: a master that has lost the guest exists until it notices, which the first attempt causes.
            for _ in 0..2 {
                let client = match self.connect(&socket) {
                    Ok(client) => client,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => self.make(i)?,
                };
                let Some(turn) = self.turn(&socket.with_extension(format!("{i}.turn.lock")))? else { break };
                match client.open(command, term, stdio, self.deadline) {
                    Ok(Opened::Session(session)) => return Ok(session.holding(turn)),
                    Ok(Opened::Refused) => break,
                    Err(_) if timed::left(self.deadline).is_zero() => {
                        let why = format!("the guest opens no session, {}", self.so_far());
                        return Err(self.reason(Error::new("exec", why).hint("its sshd or its kernel hangs")));
                    }
                    Err(_) => {}
                }
            }
        }
        Err(Error::new("exec", "the guest's sshd takes no more sessions"))
    }

    /// Connects to one of our masters.
    pub(super) fn connect(&self, socket: &Path) -> io::Result<Client> {
        Client::connect(socket, self.deadline.min(Instant::now() + ANSWER))
    }

    /// Duration of the wait, and time since the guest's start.
    pub fn so_far(&self) -> String {
        let waited = self.since.elapsed().as_secs();
        match Mark::uptime(Path::new(paths::STATUS)) {
            Some(uptime) => format!("after {waited} s, {uptime} s after the VM's start"),
            None => format!("after {waited} s"),
        }
    }

    /// State of the guest, as far as it is visible while it accepts no login.
    pub fn seen(&self) -> String {
        match wait_sshd::look(self.address) {
            Ok(_) => "the guest's sshd greets and has let nobody in yet".into(),
            Err(seen) => format!("the guest {seen}"),
        }
    }

    /// Whether this guest has accepted a login since it booted: a refusal is then final.
    pub fn was_entered(&self) -> bool {
        self.dir.join(ENTERED).exists()
    }

    /// Leaves the mark, in one step: others look at it.
    fn entered(&self, version: &str) -> Result<()> {
        let (new, mark) = (self.dir.join(format!("{ENTERED}.{}", std::process::id())), self.dir.join(ENTERED));
        fs::write(&new, version).and_then(|()| fs::rename(&new, &mark)).context(mark.display())
    }

    /// Lock to hold for the length of a session on a connection; `None` if another exec has the connection for itself.
    fn turn(&self, path: &Path) -> Result<Option<Flock<File>>> {
        let version = fs::read_to_string(self.dir.join(ENTERED)).unwrap_or_default();
        let alone = version.contains("dropbear");
        let how = if alone { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
        match Flock::lock(lock_file(path)?, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(e).context(path.display()),
        }
    }

    /// Path of a control socket: short, whatever the user's name (108 bytes at most, 17 of them ssh's own suffix).
    fn socket(&self, i: usize) -> PathBuf {
        let digest = Sha256::digest(self.user.as_bytes());
        let name: String = digest[..10].iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(format!("{name}.{i}"))
    }

    /// Makes the master, unless another exec does so at the same time.
    fn make(&self, i: usize) -> Result<Client> {
        let socket = self.socket(i);
        let lock = socket.with_extension(format!("{i}.lock"));
        let Some(_locked) = timed::lock(lock_file(&lock)?, self.deadline)? else {
            // Another exec of this user waits as well and is not through.
            return Err(self.reason(self.unfinished()));
        };
        if let Ok(client) = self.connect(&socket) {
            return Ok(client);
        }
        let (mut settling, mut version) = (None, None);
        if !self.was_entered() {
            version = Some(self.greeting()?.version);
            settling = Some(Instant::now() + SETTLING);
        }
        loop {
            let why = match self.start(&socket, &socket.with_extension(format!("{i}.log")), i > 0) {
                Ok(client) => {
                    version.map_or(Ok(()), |version| self.entered(&version))?;
                    return Ok(client);
                }
                Err(Refusal::Other(e)) => return Err(e),
                Err(Refusal::Ssh(why)) => why,
            };
            if timed::left(self.deadline).is_zero() {
                return Err(self.reason(self.refused(&why)));
            }
            let waited = self.greeting()?.waited;
            let now = Instant::now();
            if waited {
                settling = Some(now + SETTLING);
            } else if settling.is_none_or(|end| now + SETTLING_PAUSE > end.min(self.deadline)) {
                return Err(self.refused(&why));
            }
            sleep(if waited { Duration::ZERO } else { SETTLING_PAUSE });
        }
    }

    fn greeting(&self) -> Result<wait_sshd::Greeting> {
        wait_sshd::wait(self.address, self.deadline).map_err(|seen| seen.error(&self.so_far()))
    }

    /// After the deadline: what keeps the guest from greeting, `otherwise` if it does greet.
    pub(super) fn reason(&self, otherwise: Error) -> Error {
        match wait_sshd::look(self.address) {
            Ok(_) => otherwise,
            Err(seen) => seen.error(&self.so_far()),
        }
    }
}

/// Forgets the connections of an earlier boot: the host key may have changed. Locks and logs stay, because an exec may
/// be using them.
pub fn forget(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().ends_with(b".lock") && !name.as_encoded_bytes().ends_with(b".log") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
