//! SELinux: what is ours carries the container's own label, else the processes in the container may not touch it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::host::Selinux;

/// The extended attribute.
const NAME: &std::ffi::CStr = c"security.selinux";

/// Gives `path`, not what it links to, this label (`linux.mountLabel`).
///
/// # Errors
/// When SELinux is there and it cannot be done.
pub fn set(path: &Path, label: &str) -> Result<()> {
    judge(write(path, label), path, || Selinux::here() == Selinux::Off)
}

/// File systems without labels of their own get one from the mount. Without SELinux no process reads labels.
fn judge(written: io::Result<()>, path: &Path, off: impl FnOnce() -> bool) -> Result<()> {
    match written {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) || off() => Ok(()),
        Err(e) => Err(Error::new(path.display().to_string(), format!("its SELinux label cannot be set: {e}"))),
    }
}

fn write(path: &Path, label: &str) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (value, length) = (label.as_ptr().cast(), label.len());
    // SAFETY: path and name end with a NUL, the value has that length, and all outlive the call.
    match unsafe { libc::lsetxattr(path.as_ptr(), NAME.as_ptr(), value, length, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The label of `path`, not of what it links to.
#[cfg(test)]
pub(super) fn of(path: &Path) -> Option<String> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0; 256];
    // SAFETY: path and name end with a NUL, the buffer has that length, and all outlive the call.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_cannot_be_set_matters_where_there_is_selinux() {
        let refused = |errno| Err(io::Error::from_raw_os_error(errno));
        let path = Path::new("/x");
        for (written, off, want) in [
            (Ok(()), false, Ok(())),
            (refused(libc::EPERM), true, Ok(())),
            (refused(libc::EOPNOTSUPP), false, Ok(())),
            (
                refused(libc::EPERM),
                false,
                Err("/x: its SELinux label cannot be set: Operation not permitted (os error 1)"),
            ),
        ] {
            assert_eq!(judge(written, path, || off).map_err(|e| e.to_string()), want.map_err(str::to_string));
        }
    }
}
