//! The root directory of a container image, for as long as it is looked at.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crun_qemu::error::{Error, Result};

use super::super::directory::{self, Directory};
use super::super::engine::{Engine, Kind};
use super::super::programs::Programs;

/// Names of an archive that no VM image has: all below directories but the files in `disk`.
const ELSEWHERE: [&str; 9] =
    ["[!d]*/*", "d/*", "d[!i]*/*", "di/*", "di[!s]*/*", "dis/*", "dis[!k]*/*", "disk?*/*", "disk/*/*"];

/// A root directory.
pub struct SharedRoot<'a> {
    path: PathBuf,
    /// A copy, where the engine mounts nothing.
    _copy: Option<Directory>,
    /// Undone by the engine when dropped.
    _lease: Lease<'a>,
}

/// A command of the engine that is due.
struct Lease<'a> {
    engine: &'a Engine,
    words: Vec<OsString>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut command = self.engine.command(&self.words);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl<'a> Lease<'a> {
    fn new(engine: &'a Engine, words: &[&str], what: &OsStr) -> Self {
        let words = words.iter().map(OsString::from).chain([what.to_owned()]).collect();
        Self { engine, words }
    }
}

impl SharedRoot<'_> {
    /// Path on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The root of the container image `image`. A copy, where one is needed, is made beside the file at `out`.
///
/// # Errors
/// The engine failed.
pub fn of<'a>(engine: &'a Engine, programs: &Programs, image: &OsStr, out: &Path) -> Result<SharedRoot<'a>> {
    let ask = |words: &[&str], what: &OsStr| {
        let line = programs.line(engine.command(words).arg(what))?;
        line.filter(|line| !line.is_empty())
            .ok_or_else(|| Error::new(image.to_string_lossy(), format!("{} could not open it", engine.kind.name())))
    };
    match engine.kind {
        Kind::Podman => {
            let path = ask(&["image", "mount", "--"], image)?.into();
            let lease = Lease::new(engine, &["image", "unmount", "--"], image);
            Ok(SharedRoot { path, _copy: None, _lease: lease })
        }
        Kind::Buildah => {
            let container = OsString::from(ask(&["from", "--pull=never", "--"], image)?);
            let lease = Lease::new(engine, &["rm", "--"], &container);
            let path = ask(&["mount", "--"], &container)?.into();
            Ok(SharedRoot { path, _copy: None, _lease: lease })
        }
        Kind::Docker => {
            // The container is never started, so its command need not exist.
            let mut create = engine.command(&["create", "--"]);
            let container = programs.line(create.arg(image).arg("/none"))?.map(OsString::from);
            let failed = || Error::new(image.to_string_lossy(), "docker could not open it");
            let container = container.ok_or_else(failed)?;
            let lease = Lease::new(engine, &["rm", "--"], &container);
            let copy = Directory::below(directory::parent(out), ".extract")?;
            let mut export = engine.command(&["export", "--"]);
            export.arg(&container);
            match programs.pipe(export, unpacker(copy.path()))? {
                true => Ok(SharedRoot { path: copy.path().to_owned(), _copy: Some(copy), _lease: lease }),
                false => Err(failed()),
            }
        }
    }
}

/// Unpacks into `dir` what of an archive can be a VM image, or can stand where one should be.
fn unpacker(dir: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["-x", "--no-same-owner", "--no-same-permissions", "--anchored", "--wildcards"]);
    tar.arg("--no-wildcards-match-slash").args(ELSEWHERE.map(|name| format!("--exclude={name}")));
    tar.arg("-C").arg(dir);
    tar
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_can_be_an_image_is_unpacked() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in ["etc/x", "d", "di", "dis", "disk/sub", "disks", "dink", "dosk", "disk2"] {
            fs::create_dir_all(from.path().join(dir)).unwrap();
            fs::write(from.path().join(dir).join("file"), "").unwrap();
        }
        for file in ["a\nb", "disk/c*d", "dx", "-e"] {
            fs::write(from.path().join(file), "").unwrap();
        }
        let mut tar = Command::new("tar");
        let names: Vec<_> = fs::read_dir(from.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        tar.arg("-C").arg(from.path()).args(["-c", "--"]).args(names);
        assert_eq!(Programs::new().unwrap().pipe(tar, unpacker(to.path())), Ok(true));
        let mut files = Vec::new();
        for dir in ["", "disk", "disk/sub", "etc", "d", "disk2"] {
            let entries = fs::read_dir(to.path().join(dir)).unwrap().map(|entry| entry.unwrap());
            files.extend(entries.filter(|entry| entry.file_type().unwrap().is_file()).map(|entry| entry.file_name()));
        }
        files.sort();
        assert_eq!(files, ["-e", "a\nb", "c*d", "dx"]);
    }
}
