//! `crun-qemu image pack`: a container image that holds a VM image and nothing else.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;

use crun_qemu::error::{Context, Error, OneLine, Result};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use super::check;
use super::directory::Directory;
use super::engine::{Engine, Kind};
use super::programs::Programs;
use super::syntax::Syntax;

/// The command line.
pub const SYNTAX: Syntax = Syntax {
    name: "pack",
    meaning: "Makes the container image TAG, which holds the VM image FILE in /disk/ and nothing else, with podman, \
              buildah or docker.",
    flag: "--replace",
    format: true,
    operands: &["FILE", "TAG"],
};

/// Makes the container image that the words name.
///
/// # Errors
/// No VM would start on the file, the tag exists already, or the engine failed.
pub fn run(words: &[OsString]) -> Result<()> {
    let Some(words) = SYNTAX.parse(words)? else { return Ok(()) };
    let (path, tag) = (Path::new(&words.operands[0]), words.operands[1].as_os_str());
    let judged = check::judge(path, words.format)?;
    let engine = Engine::first(&[Kind::Podman, Kind::Buildah, Kind::Docker])?;
    let programs = Programs::new()?;
    let shown = tag.to_string_lossy();
    if !words.flag && engine.has(tag, &programs)? {
        return Err(Error::new(shown, "exists already").hint("--replace replaces it"));
    }
    let name = format!("disk.{}", judged.disk.format);
    // An engine copies all of the directory that it is given, or judges by itself what to leave out.
    let context = Directory::beside(path, ".package")?;
    put(&judged.file, &context.path().join(&name), &programs)?;
    let recipe = context.path().join("Dockerfile");
    fs::write(&recipe, format!("FROM scratch\nCOPY {name} /disk/\n")).context(recipe.display())?;
    let words = [OsStr::new("build"), "-q".as_ref(), "-t".as_ref(), tag, "-f".as_ref(), recipe.as_ref()];
    let mut build = engine.command(&words);
    if !programs.succeeds(build.arg(context.path()).stdout(Stdio::null()))? {
        return Err(Error::new(shown, format!("{} could not build it", engine.kind.name())));
    }
    eprintln!("{}: /disk/{name}", OneLine(&shown));
    Ok(())
}

/// Puts the judged file at `path`: a hard link costs nothing, a copy is made only where there can be no link.
fn put(file: &File, path: &Path, programs: &Programs) -> Result<()> {
    let judged = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(AT_FDCWD, judged.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) => Ok(()),
        Err(_) => programs.copy(file, path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_put_is_the_judged_file() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let path = dir.path().join("disk");
        fs::write(&path, "judged").unwrap();
        let file = File::open(&path).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "another").unwrap();
        let programs = Programs::new().unwrap();
        let (link, copy) = (dir.path().join("link"), other.path().join("copy"));
        put(&file, &link, &programs).unwrap();
        assert_eq!(fs::metadata(&link).unwrap().ino(), file.metadata().unwrap().ino());
        put(&file, &copy, &programs).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"judged");
    }
}
