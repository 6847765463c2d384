//! `podman exec`: ssh into the guest, or a command in the container around it.

mod command;
mod control_master;
pub mod environment;
pub mod liveness;
mod login;
pub mod mux;
mod notice;
mod orphan_guard;
mod session;
mod timed;
mod wait_sshd;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::unistd::Uid;

pub use command::Job;
pub use control_master::{Guest, forget};

use notice::Notice;

use crate::status::Mark;
use crate::terminal::say;
use crun_qemu::error::{Context, Error, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::SupervisorConfig;

/// Status of what ssh itself could not do, as ssh has it.
const FAILED: i32 = 255;
/// Default time that an exec waits for the guest's sshd: an emulated guest with slow disks boots in a few minutes.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long to wait before printing a notice: for a guest that may still be booting, and for one already logged in to
/// (a handshake under load takes seconds).
const QUIET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Search path for programs in the container around the VM, ours among them (`crun-qemu-init status`).
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/crun-qemu";

/// The request of an exec: `[--cwd DIR] [--] USER [CMD…]`.
#[derive(Debug, PartialEq, Eq)]
struct ExecRequest {
    user: OsString,
    argv: Vec<OsString>,
    cwd: Option<OsString>,
}

/// Performs `podman exec` with the arguments after `crun-qemu-init exec`; returns the exit status. `guest` finds the
/// guest's address by the name of the tap.
pub fn run(args: Vec<OsString>, guest: impl Fn(&str) -> Result<IpAddr>) -> i32 {
    enter(args, guest).unwrap_or_else(|e| {
        say(e);
        FAILED
    })
}

fn enter(args: Vec<OsString>, guest: impl Fn(&str) -> Result<IpAddr>) -> Result<i32> {
    let mut request = parse(args)?;
    may_enter(Uid::effective())?;
    let config = SupervisorConfig::read()?;
    // For an exec without a directory of its own, engines pass the container's: the image's, which the guest does not
    // have.
    request.cwd = request.cwd.filter(|cwd| Path::new(cwd) != config.cwd);
    let (env, term) = environment::asked(std::env::vars_os(), &config.env);
    if ["sh", "/bin/sh"].iter().any(|shell| request.user == *shell)
        && request.argv.first().is_some_and(|arg| arg == "-c")
    {
        // An engine's health check that is a single string, or a command typed out of habit for containers.
        let what = format!("exec {}", request.user.display());
        return Err(Error::new(what, "a shell's command line, and no user of the guest to run it")
            .hint(r#"podman exec CONTAINER USER COMMAND, --health-cmd '["USER","COMMAND"]'"#));
    }
    if request.user == "-" {
        return Ok(around(&request, env, term));
    }
    let address = match (&config.tap, config.ssh) {
        (Some(tap), _) => SocketAddr::new(guest(tap)?, 22),
        (None, Some(forward)) => forward,
        (None, None) => return Err(Error::new("exec", "the guest has no network")),
    };
    let user =
        request.user.into_string().map_err(|user| Error::new(format!("exec {}", user.display()), "not UTF-8"))?;
    let timeout = config.exec_timeout.map_or(TIMEOUT, Duration::from_secs);
    let guest = Guest {
        address,
        user,
        key: paths::SSH_KEY.into(),
        dir: paths::SSH_DIR.into(),
        since: Instant::now(),
        deadline: Instant::now() + timeout,
    };
    let job = Job {
        token: token()?,
        argv: request.argv.into_iter().map(OsString::into_vec).collect(),
        env,
        cwd: request.cwd.map(OsString::into_vec),
    };
    in_guest(&guest, &job, term)
}

/// Runs the job in the guest with this process' stdin, stdout and stderr; returns its exit status.
///
/// # Errors
/// When the guest could not be entered, with the reason.
pub fn in_guest(guest: &Guest, job: &Job, term: Option<Vec<u8>>) -> Result<i32> {
    if guest.user.is_empty() || guest.user.contains(char::is_control) {
        return Err(Error::new(format!("exec {:?}", guest.user), "not a user's name"));
    }
    // The guard first: it is forked, which requires a single thread.
    let orphan_guard = orphan_guard::Guard::start(guest, &job.token)?;
    let _attending = liveness::hold_exec_lock(Path::new(paths::EXECS))?;
    let quiet = if guest.was_entered() { QUIET.1 } else { QUIET.0 };
    let notice = session::block_sigwinch(|| {
        std::thread::spawn(|| end_with_the_vm(Path::new(paths::ALIVE)));
        let first = format!("waiting for the guest's sshd at {}", guest.address);
        let guest = guest.clone();
        Notice::after(quiet, first, move || format!("still waiting, {}: {}", guest.so_far(), guest.seen()))
    })?;
    let status = session::run(guest, job, term, orphan_guard, || drop(notice));
    std::mem::forget(LAST_WORD.lock());
    status
}

/// Whose message and status are this process'.
static LAST_WORD: Mutex<()> = Mutex::new(());

/// Exits when the VM ends; an ssh connection notices late or never.
fn end_with_the_vm(alive: &Path) {
    // Signals are for the thread that waits for them.
    let _ = SigSet::all().thread_block();
    liveness::wait_for_end(alive);
    let _last = LAST_WORD.lock();
    say(Error::new("exec", "the VM is not running"));
    std::process::exit(FAILED);
}

/// Only root can read the key, and crun runs an exec as the user that the container was started with.
fn may_enter(user: Uid) -> Result<()> {
    if user.is_root() {
        return Ok(());
    }
    let why = format!("it runs as user {user} of the container, and the guest's key is root's");
    Err(Error::new("exec", why).hint("podman exec --user 0"))
}

fn parse(args: Vec<OsString>) -> Result<ExecRequest> {
    let mut args = args.into_iter().peekable();
    let mut cwd = None;
    if args.next_if(|arg| arg == "--cwd").is_some() {
        cwd = Some(args.next().ok_or_else(|| Error::new("exec --cwd", "needs a directory"))?);
    } else if let Ok(dir) = std::env::current_dir()
        && dir != Path::new("/")
    {
        cwd = Some(PathBuf::into_os_string(dir));
    }
    args.next_if(|arg| arg == "--");
    let user = args.next().ok_or_else(|| Error::new("exec", "needs a guest user").hint("or -"))?;
    if user.as_encoded_bytes().starts_with(b"-") && user != "-" {
        // ssh would refuse it too, with a message that seems to come from the guest.
        let what = format!("exec {}", user.display());
        return Err(Error::new(what, "the name of a guest user cannot begin with -"));
    }
    Ok(ExecRequest { user, argv: args.collect(), cwd })
}

/// Becomes the command in the container around the VM; comes back only if it cannot, with a shell's status for that.
fn around(request: &ExecRequest, env: Vec<environment::Var>, term: Option<Vec<u8>>) -> i32 {
    let shell = [OsString::from("sh")];
    let argv = if request.argv.is_empty() { &shell[..] } else { &request.argv };
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().env("PATH", PATH).env("HOME", "/");
    for (name, value) in term.map(|term| (b"TERM".to_vec(), term)).into_iter().chain(env) {
        command.env(OsStr::from_bytes(&name), OsStr::from_bytes(&value));
    }
    if let Some(dir) = &request.cwd {
        command.current_dir(dir);
    }
    let e = command.exec();
    say(Error::new(format!("exec - {}", argv[0].display()), e.to_string()));
    if e.kind() == ErrorKind::NotFound { 127 } else { 126 }
}

/// Random letters and digits.
fn token() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).context("exec")?;
    Ok(bytes.iter().fold("crunqemu".into(), |token, b| format!("{token}{b:02x}")))
}

/// Reason for which the whole guest is paused, if it is.
fn why_paused() -> String {
    let reason = Mark::read(Path::new(paths::STATUS)).and_then(|mark| mark.reason);
    reason.map(|reason| format!(" (the VM is paused: {reason})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_not_options() {
        let parse = |user: &str| parse(vec!["--".into(), user.into(), "id".into()]).map(|request| request.user);
        assert_eq!(parse("-"), Ok("-".into()));
        let line = "exec -oProxyCommand=x: the name of a guest user cannot begin with -";
        assert_eq!(parse("-oProxyCommand=x").unwrap_err().to_string(), line);
    }

    #[test]
    fn only_root_of_the_container_enters() {
        assert_eq!(may_enter(Uid::from_raw(0)), Ok(()));
        assert_eq!(
            may_enter(Uid::from_raw(1000)).unwrap_err().to_string(),
            "exec: it runs as user 1000 of the container, and the guest's key is root's (podman exec --user 0)"
        );
    }
}
