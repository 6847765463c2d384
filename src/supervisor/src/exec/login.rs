//! One login by ssh, which leaves a control master behind, and the reasons why it can fail.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::control_master::Guest;
use super::mux::Client;
use super::timed;
use crun_qemu::error::{Context, Error};

pub(super) const SSH: &str = "/usr/bin/ssh";
/// One attempt of ssh to connect and receive the greeting.
const CONNECT: Duration = Duration::from_secs(30);
/// Most bytes read from ssh's log.
const LOG: u64 = 64 << 10;
/// Hint to the log of an sshd that misbehaves.
const LOOK_INSIDE: &str = "its log in the guest says why: podman attach CONTAINER";

/// Why a master could not be made.
pub(super) enum Refusal {
    /// ssh's own words.
    Ssh(String),
    Other(Error),
}

impl Guest {
    /// Starts ssh, which goes to the background once the login has succeeded and its socket exists. Its messages go to
    /// a file, because it must not keep the exec's stderr open.
    pub(super) fn start(&self, socket: &Path, log: &Path, extra: bool) -> std::result::Result<Client, Refusal> {
        let _ = fs::remove_file(socket);
        let _ = fs::remove_file(log);
        let persist = if extra { "ControlPersist=60" } else { "ControlPersist=yes" };
        let mut ssh = Command::new(SSH);
        ssh.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        ssh.args(["-F", "none", "-M", "-N", "-n", "-f", "-T", "-E"]).arg(log);
        ssh.arg("-S").arg(socket).arg("-i").arg(&self.key).args(["-l", &self.user]);
        ssh.args(["-p", &self.address.port().to_string()]);
        let known = format!("UserKnownHostsFile={}", self.dir.join("known_hosts").display());
        let left = timed::left(self.deadline).min(CONNECT).as_secs().max(1);
        let connect = format!("ConnectTimeout={left}");
        for option in OPTIONS.into_iter().chain([persist, &known, &connect]) {
            ssh.args(["-o", option]);
        }
        ssh.arg("--").arg(self.address.ip().to_string());
        // One that the guest never lets in is not to outlive an exec that is killed; in the background it is on its
        // own. SAFETY: it is a system call and touches no memory.
        unsafe { ssh.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let child = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // ssh's own timeout ends where the login begins.
        let ended = child.context(SSH).and_then(|child| timed::end(child, self.deadline)).map_err(Refusal::Other)?;
        let status = ended.ok_or_else(|| Refusal::Other(self.reason(self.unfinished())))?;
        let connected = if status.success() { self.connect(socket) } else { Err(io::ErrorKind::NotFound.into()) };
        connected.map_err(|_| Refusal::Ssh(log_tail(log)))
    }

    /// The guest drags the login out.
    pub(super) fn unfinished(&self) -> Error {
        let why = format!("the guest's sshd does not finish the login, {}", self.so_far());
        Error::new(format!("exec {}", self.user), why).hint(LOOK_INSIDE)
    }

    /// The guest answers and refuses the login. The reason is ssh's own message, untranslated.
    pub(super) fn refused(&self, why: &str) -> Error {
        let what = format!("exec {}", self.user);
        if why.contains("Permission denied") {
            Error::new(what, format!("the guest refuses the container's key for this user: {why}"))
                .hint("is there such a user?")
        } else if why.contains("Host key verification failed") {
            Error::new(what, "the guest's host key is another than before")
                .hint(format!("podman exec CONTAINER - rm {}", self.dir.join("known_hosts").display()))
        } else {
            Error::new(what, format!("the guest's sshd ends the login: {why}")).hint(LOOK_INSIDE)
        }
    }
}

/// ssh's last message; all of it may come from the guest.
fn log_tail(log: &Path) -> String {
    let mut words = Vec::new();
    let read = File::open(log).and_then(|file| file.take(LOG).read_to_end(&mut words));
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rfind(|line| !line.trim().is_empty()).filter(|_| read.is_ok());
    last.unwrap_or("ssh failed").to_owned()
}

/// No configuration of the user's or the host, no forwarding, no questions.
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
