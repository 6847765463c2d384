//! `crun-qemu image unpack`: the VM image of a container image as a file.

mod root;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crun_qemu::error::{Context, Error, OneLine, Result, message};
use crun_qemu::host::rootfs::Root;
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use super::engine::{Engine, Kind};
use super::outfile::{self, Outfile};
use super::programs::Programs;
use super::syntax::Syntax;

/// The command line.
pub const SYNTAX: Syntax = Syntax {
    name: "unpack",
    meaning: "Takes the VM image, the sole regular file in / or /disk/, out of a container image, with podman, docker or \
              buildah. No registry is asked.",
    flag: "--replace",
    format: false,
    operands: &["CONTAINER-IMAGE", "OUTFILE"],
};

/// The command of [`with_umask`], which this program gives to itself.
pub const WITH_UMASK: &str = "unpack-with-umask";

/// Copies the VM image out of the container image that the words name.
///
/// # Errors
/// The container image is not there or has no VM image, or the file cannot be written.
pub fn run(words: &[OsString]) -> Result<()> {
    let Some(parsed) = SYNTAX.parse(words)? else { return Ok(()) };
    let (image, path) = (parsed.operands[0].as_os_str(), Path::new(&parsed.operands[1]));
    let place = Outfile::new(path, parsed.flag)?;
    let engine = Engine::first(&[Kind::Podman, Kind::Docker, Kind::Buildah])?;
    if engine.kind != Kind::Docker && !geteuid().is_root() {
        return in_user_namespace(&engine, words);
    }
    let programs = Programs::new()?;
    let shown = image.to_string_lossy();
    if !engine.has(image, &programs)? {
        return Err(Error::new(shown, "no such container image here"));
    }
    let shared = root::of(&engine, &programs, image, path)?;
    let found = Root::open(shared.path())?.called(Path::new(image)).find_image()?;
    place.fill(&found.file, &programs)?;
    let (path, inside) = (path.display().to_string(), found.path.display().to_string());
    eprintln!("{}: {} of {}", OneLine(&path), OneLine(&inside), OneLine(&shown));
    Ok(())
}

/// Becomes the same command in the user namespace, the only place where an unprivileged user's engine mounts images.
/// The engine changes the umask on the way.
fn in_user_namespace(engine: &Engine, words: &[OsString]) -> Result<()> {
    let exe = std::env::current_exe().context("/proc/self/exe")?;
    let mut command = engine.command(&["unshare".as_ref(), exe.as_os_str(), "image".as_ref(), WITH_UMASK.as_ref()]);
    command.arg(outfile::umask().bits().to_string()).args(words);
    Err(Error::new(engine.kind.name(), self::message(&command.exec())))
}

/// Runs `unpack` with the umask that is the first of the words.
///
/// # Errors
/// The first word is not a umask, or those of [`run`].
pub fn with_umask(words: &[OsString]) -> Result<()> {
    let (mask, rest) = words.split_first().ok_or_else(|| Error::new(WITH_UMASK, "needs a umask"))?;
    let mask = mask.to_string_lossy().parse().context(WITH_UMASK)?;
    umask(Mode::from_bits_truncate(mask));
    run(rest)
}
