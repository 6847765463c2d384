//! What the user's options name on the host, read as the caller could and no further.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Context, Error, Result};

/// A first boot needs no more; cloud-init takes far less from most clouds.
const LARGEST: u64 = 16 << 20;

/// A NoCloud directory's files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloudInit {
    /// `user-data`, of any kind that cloud-init takes.
    pub user_data: Option<Vec<u8>>,
    /// `meta-data`, YAML.
    pub meta_data: Option<Vec<u8>>,
    /// `vendor-data`, passed on as it is.
    pub vendor_data: Option<Vec<u8>>,
    /// `network-config`, passed on as it is.
    pub network_config: Option<Vec<u8>>,
}

/// Reads `--cloud-init DIR`.
///
/// # Errors
/// When it is relative, neither `user-data` nor `meta-data` is there, or one of the files cannot be read.
pub fn cloud_init(dir: &Path) -> Result<CloudInit> {
    absolute("--cloud-init", dir)?;
    let what = format!("--cloud-init {}", dir.display());
    match open(dir, OFlag::O_PATH).and_then(|dir| dir.metadata()) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(Error::new(what, "not a directory")),
        // podman takes the system's words for it as "a command that was not found" and says so.
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::new(what, "no such directory")),
        Err(e) => return Err(Error::new(what, e.to_string())),
    }
    let read = |name: &str| optional("--cloud-init", &dir.join(name));
    let files = CloudInit {
        user_data: read("user-data")?,
        meta_data: read("meta-data")?,
        vendor_data: read("vendor-data")?,
        network_config: read("network-config")?,
    };
    if files.user_data.is_none() && files.meta_data.is_none() {
        return Err(Error::new(what, "neither user-data nor meta-data is there"));
    }
    Ok(files)
}

/// Reads the file that `option` names.
///
/// # Errors
/// When it is relative, not a regular file, cannot be read or is larger than 16 MiB.
pub fn file(option: &str, path: &Path) -> Result<Vec<u8>> {
    absolute(option, path)?;
    optional(option, path)?.ok_or_else(|| Error::new(format!("{option} {}", path.display()), "no such file"))
}

/// Engines start a runtime in the bundle: where the caller stood is not known.
fn absolute(option: &str, path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    let why = "a relative path, and the engine does not tell from which directory";
    Err(Error::new(format!("{option} {}", path.display()), why).hint("give an absolute path"))
}

/// Reads a file if it is there; `option` names it in an error.
///
/// # Errors
/// When it is not a regular file, cannot be read or is larger than 16 MiB.
pub fn optional(option: &str, path: &Path) -> Result<Option<Vec<u8>>> {
    let what = || format!("{option} {}", path.display());
    // O_NONBLOCK: opening a fifo must not wait for its other end, nor a terminal become ours.
    let file: File = match open(path, OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::new(what(), "a symbolic link to nothing")),
        Err(e) => return Err(Error::new(what(), e.to_string())),
    };
    if !file.metadata().context(what())?.is_file() {
        return Err(Error::new(what(), "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).context(what())?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::new(what(), "larger than 16 MiB"));
    }
    Ok(Some(bytes))
}

/// Follows links as the caller could, but for those of `/proc`: an option can be an image's, and by the working
/// directory of a runtime, which is the bundle, it could name a file of its own that leads to one of the host's.
fn open(path: &Path, flags: OFlag) -> std::io::Result<File> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(AT_FDCWD, path, how) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::ELOOP) if path.metadata().is_ok() => Err(std::io::Error::other(
            "it leads through a link of /proc's own, by which an image could name host files",
        )),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_names_and_only_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(cloud_init(dir.path()).unwrap_err().to_string().ends_with("neither user-data nor meta-data is there"));
        std::fs::write(path("elsewhere"), "#cloud-config\n").unwrap();
        std::os::unix::fs::symlink("elsewhere", path("user-data")).unwrap();
        let want = CloudInit { user_data: Some(b"#cloud-config\n".to_vec()), ..CloudInit::default() };
        assert_eq!(cloud_init(dir.path()).unwrap(), want, "followed as the caller could");
        nix::unistd::mkfifo(&path("meta-data"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(cloud_init(dir.path()).unwrap_err().to_string().ends_with("meta-data: not a regular file"));
        for (path, why) in [
            (Path::new("relative"), "a relative path"),
            (Path::new("/dev/null"), "not a regular file"),
            (&path("absent"), "no such file"),
            (dir.path(), "not a regular file"),
            (Path::new("/proc/self/cwd/Cargo.toml"), "a link of /proc's own"),
        ] {
            let e = file("--ignition", path).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }
}
