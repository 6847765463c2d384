//! The container engines that keep images: podman, buildah and Docker.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crun_qemu::error::{Error, Result};
use nix::unistd::{AccessFlags, access};

use super::programs::Programs;

/// Kind of engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// podman.
    Podman,
    /// buildah.
    Buildah,
    /// Docker's client.
    Docker,
}

/// An engine that is installed.
#[derive(Debug)]
pub struct Engine {
    /// Kind of the engine.
    pub kind: Kind,
    program: PathBuf,
}

impl Kind {
    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Buildah => "buildah",
            Self::Docker => "docker",
        }
    }
}

impl Engine {
    /// The first of `kinds` that is in `$PATH`.
    ///
    /// # Errors
    /// None is.
    pub fn first(kinds: &[Kind; 3]) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::first_in(&path, kinds).ok_or_else(|| {
            let [first, second, third] = kinds.map(Kind::name);
            Error::new("image", format!("needs {first}, {second} or {third}, and none is in $PATH"))
        })
    }

    fn first_in(path: &OsStr, kinds: &[Kind; 3]) -> Option<Self> {
        let in_path = |kind: Kind| std::env::split_paths(path).map(move |dir| dir.join(kind.name()));
        let found = |kind: Kind| in_path(kind).find(|program| is_executable(program));
        kinds.iter().find_map(|&kind| Some(Self { kind, program: found(kind)? }))
    }

    /// The command of the engine with these words.
    pub fn command(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        command
    }

    /// Whether the engine has the container image `image`. No registry is contacted.
    ///
    /// # Errors
    /// The engine cannot be started, or a signal came.
    pub fn has(&self, image: &OsStr, programs: &Programs) -> Result<bool> {
        let words: &[&str] = match self.kind {
            Kind::Podman => &["image", "exists", "--"],
            Kind::Buildah => &["inspect", "--type", "image", "--"],
            Kind::Docker => &["image", "inspect", "--"],
        };
        let mut command = self.command(words);
        command.arg(image);
        if self.kind != Kind::Podman {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        programs.succeeds(&mut command)
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::Kind::*;
    use super::*;

    #[test]
    fn the_first_that_is_installed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, name, mode) in [(&one, "podman", 0o644), (&one, "docker", 0o755), (&two, "buildah", 0o755)] {
            let file = dir.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([one.path(), two.path()]).unwrap();
        let first = |kinds| Engine::first_in(&path, &kinds).map(|engine| engine.program);
        assert_eq!(first([Podman, Buildah, Docker]), Some(two.path().join("buildah")));
        assert_eq!(first([Podman, Docker, Buildah]), Some(one.path().join("docker")));
        assert!(Engine::first_in(OsStr::new("/nowhere"), &[Podman, Docker, Buildah]).is_none());
    }
}
