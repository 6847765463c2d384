//! The last step in crun's process: it executes `crun-qemu-init` in the container.
//!
//! The environment that crun prepared is the image's, and `LD_PRELOAD` in it would act on `crun-qemu-init`. So the
//! environment is made from scratch, and the variables of an exec's command get names that no loader reads.

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::execve;

use crate::error::{Context, Error, Result};
use crate::handoff::paths;

/// Why `execve` failed, and the status to exit with.
#[derive(Debug)]
pub struct Failure {
    /// Reason, for stderr.
    pub error: Error,
    /// 127 if the executable does not exist, else 126, as in shells and podman.
    pub status: i32,
}

/// Becomes the supervisor. Signals are blocked until the supervisor reads them, because the kernel drops signals that
/// the first process of a PID namespace neither handles nor blocks.
pub fn run() -> Result<Failure> {
    SigSet::all().thread_block().context("signals")?;
    become_init(&[c"crun-qemu-init"], &own()?)
}

/// Becomes the client of an exec of `argv`; `environment` is for the command.
pub fn exec(argv: &[&CStr], environment: &[&CStr]) -> Result<Failure> {
    let mut args = vec![c"crun-qemu-init", c"exec", c"--"];
    args.extend(argv);
    become_init(&args, &inert(environment)?)
}

/// The environment of `crun-qemu-init`.
fn own() -> Result<Vec<CString>> {
    paths::ENVIRONMENT.iter().map(|variable| CString::new(*variable).context("environment")).collect()
}

/// The same, and `environment` in a form that means nothing to a loader, a shell or libc.
fn inert(environment: &[&CStr]) -> Result<Vec<CString>> {
    let mut all = own()?;
    for (n, entry) in environment.iter().enumerate() {
        let name = format!("{}{n}=", paths::EXEC_ENV).into_bytes();
        all.push(CString::new([&name, entry.to_bytes()].concat()).context("environment")?);
    }
    Ok(all)
}

fn become_init(argv: &[&CStr], environment: &[CString]) -> Result<Failure> {
    let path = CString::new(paths::INIT).context(paths::INIT)?;
    let Err(errno) = execve(&path, argv, environment);
    let status = if errno == Errno::ENOENT { 127 } else { 126 };
    Ok(Failure { error: Error::new(paths::INIT, errno.desc()), status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_environment_is_inert() {
        let inert = inert(&[c"LD_PRELOAD=/disk/disk.img", c"A=b=c", c"odd", c""]).unwrap();
        let own = own().unwrap();
        let want = [
            own[0].as_c_str(),
            c"CRUN_QEMU_ENV_0=LD_PRELOAD=/disk/disk.img",
            c"CRUN_QEMU_ENV_1=A=b=c",
            c"CRUN_QEMU_ENV_2=odd",
            c"CRUN_QEMU_ENV_3=",
        ];
        assert_eq!(inert.iter().map(CString::as_c_str).collect::<Vec<_>>(), want);
    }

    #[test]
    fn without_the_executable_the_status_is_127() {
        let failure = run().unwrap();
        assert_eq!(failure.status, 127);
        assert_eq!(failure.error.to_string(), "/crun-qemu/crun-qemu-init: No such file or directory");
    }
}
