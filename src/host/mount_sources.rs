//! The sources of the container's mounts and block devices on the host, looked at once.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::Mount;

use crate::engine::mounts::is_bind;
use crate::error;
use crate::request::Request;

/// Source of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, or a file system that the container's runtime mounts itself.
    Directory,
    /// A regular file.
    File,
    /// A block device.
    Block(BlockDevice),
    /// A character device.
    CharDevice,
    /// Something that a guest cannot use, by its kind.
    Other(&'static str),
    /// It cannot be used, for this reason.
    Unusable(String),
}

/// A host block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// The host itself takes no writes to it.
    pub read_only: bool,
    /// Owner and mode of its node.
    pub node: Node,
}

/// Access rights of a device node, besides its owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its mode.
    pub mode: u32,
    /// Its group, in the user namespace of the process that looks.
    pub gid: u32,
}

impl Node {
    /// The rights in a file's metadata.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { mode: metadata.mode(), gid: metadata.gid() }
    }
}

/// The sources that a plan needs, in the order of the request's own lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Sources of the mounts.
    pub mounts: Vec<Source>,
    /// Devices; `None` for one that is missing or not a block device.
    pub devices: Vec<Option<BlockDevice>>,
}

impl Sources {
    /// Looks at them.
    pub fn look(request: &Request) -> Self {
        let device = |d: &crate::request::Device| d.is_block.then(|| block_device(d.major, d.minor, d.node)).flatten();
        Self {
            mounts: request.mounts.iter().map(source).collect(),
            devices: request.devices.iter().map(device).collect(),
        }
    }
}

fn source(mount: &Mount) -> Source {
    let Some(path) = mount.source().as_deref().filter(|_| is_bind(mount)) else { return Source::Directory };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // podman mistakes the system's text for "command not found".
        Err(e) if e.kind() == ErrorKind::NotFound => return Source::Unusable("it is not there".into()),
        Err(e) => return unusable(&e),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        Source::Directory
    } else if kind.is_file() {
        Source::File
    } else if kind.is_block_device() {
        block_source(path, &metadata)
    } else if kind.is_char_device() {
        Source::CharDevice
    } else if kind.is_socket() {
        Source::Other("a socket")
    } else {
        Source::Other("a fifo")
    }
}

fn block_source(path: &Path, metadata: &fs::Metadata) -> Source {
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    let Some(device) = block_device(major as i64, minor as i64, Node::of(metadata)) else {
        return Source::Unusable(format!("there is no block device {major}:{minor}"));
    };
    // Opened as QEMU will, so that a rootless podman's user gets the error here.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    open.map_or_else(|e| unusable(&e), |_| Source::Block(device))
}

fn unusable(e: &std::io::Error) -> Source {
    Source::Unusable(error::message(e))
}

fn block_device(major: i64, minor: i64, node: Node) -> Option<BlockDevice> {
    let read_only = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).ok()?;
    Some(BlockDevice { major, minor, read_only: read_only.trim() == "1", node })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, want) in [
            ("", Source::Directory),
            ("file", Source::File),
            ("link", Source::File),
            ("fifo", Source::Other("a fifo")),
            ("socket", Source::Other("a socket")),
            ("nothing", Source::Unusable("it is not there".into())),
            ("/dev/null", Source::CharDevice),
        ] {
            let mount = serde_json::json!({"destination": "/d", "source": path(name), "options": ["rbind"]});
            assert_eq!(source(&serde_json::from_value(mount).unwrap()), want, "{name}");
        }
        let tmpfs = serde_json::json!({"destination": "/d", "source": "tmpfs", "type": "tmpfs"});
        assert_eq!(source(&serde_json::from_value(tmpfs).unwrap()), Source::Directory);
    }
}
