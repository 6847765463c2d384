//! The configured working directory, usually the image's. Engines start every exec in it, and crun fails if it is
//! missing, although none of our processes is ever in it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::skeleton::{self, CLOSED_DIRS, DIRS, USR_LINKS};
use crate::edits::Mount;
use crate::error::{Error, Result};
use crate::handoff::paths;

/// Directories in the root: the replacement of the host's `/usr/local`, and additions to its `/usr`.
const LOCAL: &str = "crun-qemu/local";
const USR: &str = "crun-qemu/usr";
/// The supervisor's own on the tmpfs.
const OURS: &[&str] =
    &[paths::ALIVE, paths::CONSOLE, paths::EXECS, paths::LIBVIRT, paths::SSH_DIR, paths::STATUS, paths::VIRTIOFS];

/// How the directory is provided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workdir {
    /// It exists, or cannot be made.
    There,
    /// Made in the root, by this name.
    Made(String),
    /// Made by its mount.
    Mounted(String),
    /// Made in an overlay on a host directory.
    Added {
        /// The directory that the host has, below `/usr`.
        dir: PathBuf,
        /// The working directory's name in the root.
        name: String,
    },
}

impl Workdir {
    /// Finds it out: looks at the host's `/usr`.
    ///
    /// # Errors
    /// Where something else is in its place.
    pub fn find(cwd: &Path) -> Result<Self> {
        let Some(names) = names(cwd) else { return Ok(Self::There) };
        let path = names.join("/");
        let taken = || {
            let why = "no directory of that name can be there in the container around the VM";
            Err(Error::new(format!("working directory {}", cwd.display()), why).hint("podman run --workdir /"))
        };
        Ok(match names.as_slice() {
            [] | ["dev" | "proc" | "sys", ..] => Self::There,
            _ if DIRS.iter().chain(CLOSED_DIRS).any(|dir| *dir == path) => Self::There,
            ["run" | "tmp", _, ..] if OURS.iter().any(|ours| cwd.starts_with(ours)) => return taken(),
            ["run" | "tmp", _, ..] => Self::Mounted(format!("/{path}")),
            ["usr", "local"] | ["usr", "local", "bin"] => Self::There,
            ["usr", "local", "bin" | "sbin", ..] | ["crun-qemu", ..] => return taken(),
            ["usr", "local", rest @ ..] => Self::Made(format!("{LOCAL}/{}", rest.join("/"))),
            ["usr", rest @ ..] => return Self::in_usr(rest).map_or_else(taken, Ok),
            [first, ..] if USR_LINKS.contains(first) => return Self::in_usr(&names).map_or_else(taken, Ok),
            _ if skeleton::is_below_a_file(&path) => return taken(),
            _ => Self::Made(path),
        })
    }

    /// No host file is hidden: what the host has along the path must be directories.
    fn in_usr(names: &[&str]) -> Option<Self> {
        let mut host = PathBuf::from("/usr");
        for name in names {
            let dir = host.clone();
            host.push(name);
            match fs::symlink_metadata(&host) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) if fs::metadata(Path::new("/usr").join(names.join("/"))).is_ok_and(|m| m.is_dir()) => break,
                Ok(_) => return None,
                Err(_) => {
                    return Some(Self::Added { dir, name: format!("{USR}/{}", names.join("/")) });
                }
            }
        }
        Some(Self::There)
    }

    /// Its name in the root, where it is to be made there.
    pub fn made(&self) -> Option<&str> {
        match self {
            Self::Made(name) | Self::Added { name, .. } => Some(name),
            Self::There | Self::Mounted(_) => None,
        }
    }

    /// The mount that provides it; `root` is the container's root on the host.
    pub fn mount(&self, root: &Path) -> Option<Mount> {
        let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
            destination: destination.into(),
            kind: kind.into(),
            source: kind.into(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        match self {
            Self::There | Self::Made(_) => None,
            Self::Mounted(path) => Some(mount(path, "tmpfs", &["ro", "nosuid", "nodev", "noexec", "mode=755"])),
            Self::Added { dir, .. } => {
                // The smallest overlay: the kernel refuses one, in a user namespace, on a directory below which other
                // file systems are mounted, and it would hide them.
                let ours = root.join("crun-qemu").join(dir.strip_prefix("/").unwrap_or(dir));
                let layers = format!("lowerdir={}:{}", escaped(&ours), escaped(dir));
                Some(mount(&dir.display().to_string(), "overlay", &["ro", "nosuid", "nodev", &layers]))
            }
        }
    }
}

/// A directory in an overlay's options: commas separate those, and colons the directories.
fn escaped(dir: &Path) -> String {
    let escape = |c: char| if ",:\\".contains(c) { format!("\\{c}") } else { c.into() };
    dir.display().to_string().chars().map(escape).collect()
}

/// The names on the way, of a path that engines can mean.
fn names(cwd: &Path) -> Option<Vec<&str>> {
    let below = cwd.strip_prefix("/").ok()?;
    let name = |part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    };
    below.components().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_place() {
        use Workdir::{Added, Made, Mounted, There};
        let added = |dir: &str, name: &str| Added { dir: dir.into(), name: name.into() };
        let made = |name: &str| Made(name.into());
        for (cwd, want) in [
            ("/", There),
            ("/srv/app", made("srv/app")),
            ("/var/www/html", made("var/www/html")),
            ("/var/tmp", There),
            ("/var/tmp/x", made("var/tmp/x")),
            ("/etc", There),
            ("/etc/nginx", made("etc/nginx")),
            ("/usr/local/app", made("crun-qemu/local/app")),
            ("/usr/local/bin", There),
            ("/usr/share", There),
            ("/bin", There),
            ("/usr/src/nobody has/that", added("/usr/src", "crun-qemu/usr/src/nobody has/that")),
            ("/lib/nobody has that", added("/usr/lib", "crun-qemu/usr/lib/nobody has that")),
            ("/run/app/x", Mounted("/run/app/x".into())),
            ("/tmp", There),
            ("/tmp/x", Mounted("/tmp/x".into())),
            ("/proc/self", There),
            ("/crun-qemu/ssh", There),
            ("/srv/../etc", There),
            ("srv", There),
        ] {
            assert_eq!(Workdir::find(Path::new(cwd)), Ok(want), "{cwd}");
        }
        for cwd in ["/etc/passwd", "/etc/hosts/x", "/usr/bin/env", "/usr/local/sbin/x", "/run/status", "/crun-qemu/x"] {
            let want = format!(
                "working directory {cwd}: no directory of that name can be there in the container around the VM \
                 (podman run --workdir /)"
            );
            assert_eq!(Workdir::find(Path::new(cwd)).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn mounts_for_it() {
        let added = Workdir::Added { dir: "/usr/a:b".into(), name: "crun-qemu/usr/a:b/app".into() };
        let added = added.mount(Path::new("/a:b,c/root")).unwrap();
        assert_eq!((added.destination.as_str(), added.kind.as_str()), ("/usr/a:b", "overlay"));
        assert_eq!(added.options[3], r"lowerdir=/a\:b\,c/root/crun-qemu/usr/a\:b:/usr/a\:b");
        assert_eq!(Workdir::Made("srv".into()).mount(Path::new("/")), None);
    }
}
