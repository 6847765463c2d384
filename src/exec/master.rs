//! The ssh masters: connections to the guest that outlive the exec that made them.
//!
//! sshd takes ten sessions on a connection by default, so there is a row of masters for each user. The first one that
//! takes the session gets it; a new one is made at the end of the row.
//!
//! dropbear gets a connection for each session: where a program ends while another one's session is being opened, its
//! versions 2022.82 to 2024.86 end the connection with all of its sessions ("Failed assertion … sent_close").

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::mux::{Client, Opened, Session};
use super::reach;
use crate::error::{Context, Error, Result};

const SSH: &str = "/usr/bin/ssh";
/// The mark of a guest that has let somebody in, with its sshd's version in it.
const ENTERED: &str = "entered";
/// Masters of one user: with ten sessions on each this is far beyond what a guest is asked for.
const ROW: usize = 64;
/// One attempt of ssh's to connect and to greet.
const CONNECT: Duration = Duration::from_secs(30);
/// A guest that has just begun to answer may not have its users yet, or keep them out until it has booted
/// (pam_nologin).
const SETTLING: Duration = Duration::from_secs(30);
/// Between attempts in that time: sshd counts failures against whoever makes more of them (PerSourcePenalties).
const SETTLING_PAUSE: Duration = Duration::from_secs(4);

/// The guest and one of its users.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Where its sshd is.
    pub address: SocketAddr,
    /// Who to be there.
    pub user: String,
    /// The private key's file.
    pub key: PathBuf,
    /// Directory of sockets and known hosts, private, on a tmpfs.
    pub dir: PathBuf,
    /// Until when to wait for sshd.
    pub deadline: Instant,
}

/// Why a master could not be made.
enum Refusal {
    /// ssh's own words.
    Ssh(String),
    Other(Error),
}

impl Guest {
    /// Runs `command` in the guest, on the first connection with room for it.
    ///
    /// # Errors
    /// When the guest lets nobody in; the command was not run then.
    pub fn open(&self, command: &[u8], term: Option<&[u8]>, stdio: [BorrowedFd<'_>; 3]) -> Result<Session> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).context(self.dir.display())?;
        for i in 0..ROW {
            let socket = self.socket(i);
            // Twice: a master that has lost the guest is there until it notices, which the first attempt makes it do.
            for _ in 0..2 {
                let client = match Client::connect(&socket) {
                    Ok(client) => client,
                    Err(_) => self.make(i)?,
                };
                let Some(turn) = self.turn(&socket.with_extension(format!("{i}.turn.lock")))? else { break };
                match client.open(command, term, stdio, self.deadline) {
                    Ok(Opened::Session(session)) => return Ok(session.holding(turn)),
                    Ok(Opened::Refused) => break,
                    Err(_) => {}
                }
            }
        }
        Err(Error::new("exec", "the guest's sshd takes no more sessions"))
    }

    /// Whether this guest has let somebody in since it booted: then a refusal is one.
    pub fn was_entered(&self) -> bool {
        self.dir.join(ENTERED).exists()
    }

    /// Leaves the mark, in one step: others look at it.
    fn entered(&self, version: &str) -> Result<()> {
        let (new, mark) = (self.dir.join(format!("{ENTERED}.{}", std::process::id())), self.dir.join(ENTERED));
        fs::write(&new, version).and_then(|()| fs::rename(&new, &mark)).context(mark.display())
    }

    /// To be held as long as the session on a connection; `None` where the connection is another's alone.
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
        let locked = Flock::lock(lock_file(&lock)?, FlockArg::LockExclusive);
        let _locked = locked.map_err(|(_, e)| e).context(lock.display())?;
        if let Ok(client) = Client::connect(&socket) {
            return Ok(client);
        }
        let (mut settling, mut version) = (None, None);
        if !self.was_entered() {
            version = Some(reach::wait(self.address, self.deadline)?.version);
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
            let waited = reach::wait(self.address, self.deadline)?.waited;
            let now = Instant::now();
            if waited {
                settling = Some(now + SETTLING);
            } else if settling.is_none_or(|end| now + SETTLING_PAUSE > end.min(self.deadline)) {
                return Err(self.refused(&why));
            }
            sleep(if waited { Duration::ZERO } else { SETTLING_PAUSE });
        }
    }

    /// ssh goes to the background when it is let in, with its socket there; its words go to a file, as it must not
    /// keep the exec's stderr.
    fn start(&self, socket: &Path, log: &Path, extra: bool) -> std::result::Result<Client, Refusal> {
        let _ = fs::remove_file(socket);
        let _ = fs::remove_file(log);
        let persist = if extra { "ControlPersist=60" } else { "ControlPersist=yes" };
        let mut ssh = Command::new(SSH);
        ssh.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        ssh.args(["-F", "none", "-M", "-N", "-n", "-f", "-T", "-E"]).arg(log);
        ssh.arg("-S").arg(socket).arg("-i").arg(&self.key).args(["-l", &self.user]);
        ssh.args(["-p", &self.address.port().to_string()]);
        let known = format!("UserKnownHostsFile={}", self.dir.join("known_hosts").display());
        let left = self.deadline.saturating_duration_since(Instant::now()).min(CONNECT).as_secs().max(1);
        let connect = format!("ConnectTimeout={left}");
        for option in OPTIONS.into_iter().chain([persist, &known, &connect]) {
            ssh.args(["-o", option]);
        }
        ssh.arg("--").arg(self.address.ip().to_string());
        let status = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let status = status.context(SSH).map_err(Refusal::Other)?;
        let connected = if status.success() { Client::connect(socket) } else { Err(io::ErrorKind::NotFound.into()) };
        connected.map_err(|_| {
            let words = fs::read_to_string(log).unwrap_or_default();
            Refusal::Ssh(words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ssh failed").to_owned())
        })
    }

    /// The guest answers and does not let us in. What ssh says is the reason; it is not translated.
    fn refused(&self, why: &str) -> Error {
        let what = format!("exec {}", self.user);
        if why.contains("Permission denied") {
            Error::new(what, format!("the guest refuses the container's key for this user: {why}"))
                .hint("is there such a user?")
        } else if why.contains("Host key verification failed") {
            Error::new(what, "the guest's host key is another than before")
                .hint(format!("podman exec CONTAINER - rm {}", self.dir.join("known_hosts").display()))
        } else {
            Error::new(what, why)
        }
    }
}

/// The guest boots anew: its host key may be another, and no connection to it is one any more. Locks and logs stay, as
/// an exec may be at work with them.
pub fn forget(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().ends_with(b".lock") && !name.as_encoded_bytes().ends_with(b".log") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Nothing of the user's or the host's configuration, nothing forwarded, nothing asked.
const OPTIONS: [&str; 22] = [
    "BatchMode=yes",
    "CanonicalizeHostname=no",
    "CheckHostIP=no",
    "ClearAllForwardings=yes",
    "ControlMaster=yes",
    "EscapeChar=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GlobalKnownHostsFile=/dev/null",
    "HashKnownHosts=no",
    "HostKeyAlias=guest",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "LogLevel=ERROR",
    "PermitLocalCommand=no",
    "PreferredAuthentications=publickey",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=10",
    "StrictHostKeyChecking=accept-new",
    "TCPKeepAlive=yes",
    "UpdateHostKeys=no",
    "VisualHostKey=no",
];

fn lock_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    file.context(path.display())
}
