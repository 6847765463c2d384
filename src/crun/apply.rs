//! Writes the edits into crun's structs.
//!
//! New values are malloc'ed, because crun frees them. Replaced values are not freed: crun may have kept pointers to
//! them, and the process is short-lived.

use std::os::unix::ffi::OsStrExt;

use libc::c_char;

use super::alloc::{array, new_struct, string, strings};
use super::sys::crun_mount;
use super::verify::{Devices, Proven};
use crate::edits::memory_limits::Change;
use crate::edits::{DeviceRule, Edits, Mount, MountEdit};
use crate::error::{Error, Result};

/// Writes `edits`. On error nothing has been written.
///
/// # Safety
/// Everything that `proven` points to is alive, and nothing else uses it during the call.
pub unsafe fn apply(proven: &Proven, edits: &Edits) -> Result<()> {
    check(&edits.mounts, proven.mounts.len())?;
    // Everything that can fail comes before the first write.
    let root = string(edits.root.as_os_str().as_bytes())?;
    let cwd = string(b"/")?;
    let args = strings(&edits.args)?;
    // SAFETY: the indices are checked, and the pointers verified.
    let mounts =
        edits.mounts.iter().map(|edit| unsafe { Entry::new(&proven.mounts, edit) }).collect::<Result<Vec<_>>>()?;
    let list = array(&mounts.iter().map(|entry| entry.at).collect::<Vec<_>>())?;
    let rules = match &proven.devices {
        // SAFETY: the pointer is verified.
        Some(devices) if !edits.devices.is_empty() => Some(unsafe { rules(devices, &edits.devices)? }),
        _ => None,
    };
    let paths = edits.device_paths.iter().map(|(index, path)| {
        let device = proven.made.get(*index).copied();
        let device = device.ok_or_else(|| Error::new("edits", format!("there is no device {index}")))?;
        Ok((device, string(path.as_bytes())?))
    });
    let paths = paths.collect::<Result<Vec<_>>>()?;
    let limits = proven.limits.changed(&Change::Raise(edits.memory))?;
    // SAFETY: the pointers are verified, or are the blocks made above.
    unsafe {
        (*proven.root).path = root;
        (*proven.root).readonly = 1;
        (*proven.process).args = args;
        (*proven.process).args_len = edits.args.len();
        (*proven.process).cwd = cwd;
        for entry in &mounts {
            entry.commit();
        }
        for (device, path) in paths {
            (*device).path = path;
        }
        (*proven.def).mounts = list;
        (*proven.def).mounts_len = mounts.len();
        if let (Some(devices), Some((list, len))) = (&proven.devices, rules) {
            (*devices.resources).devices = list;
            (*devices.resources).devices_len = len;
        }
        limits.commit();
    }
    Ok(())
}

/// Checks that every old entry is used at most once, because crun frees each entry of the new list.
fn check(edits: &[MountEdit], old: usize) -> Result<()> {
    let mut seen = vec![false; old];
    for edit in edits {
        let (MountEdit::Keep(index) | MountEdit::Move { index, .. }) = edit else { continue };
        match seen.get_mut(*index) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::new("edits", format!("mount {index} of {old} does not exist or is used twice"))),
        }
    }
    Ok(())
}

/// An entry of the new list, and the values to write into it.
struct Entry {
    at: *mut crun_mount,
    destination: *mut c_char,
    options: *mut *mut c_char,
    options_len: usize,
}

impl Entry {
    /// # Safety
    /// `old` has verified pointers; the edit's index is one of them.
    unsafe fn new(old: &[*mut crun_mount], edit: &MountEdit) -> Result<Self> {
        match edit {
            MountEdit::Keep(index) => {
                let at = old[*index];
                // SAFETY: the pointer is verified.
                let (destination, options, options_len) =
                    unsafe { ((*at).destination, (*at).options, (*at).options_len) };
                Ok(Self { at, destination, options, options_len })
            }
            MountEdit::Move { index, destination, options } => {
                let at = old[*index];
                let added = options.iter().map(|o| string(o.as_bytes())).collect::<Result<Vec<_>>>()?;
                // SAFETY: the array is verified to have that many elements.
                let all = unsafe { extended((*at).options, (*at).options_len, &added) };
                Ok(Self {
                    at,
                    destination: string(destination.as_bytes())?,
                    options: array(&all)?,
                    options_len: all.len(),
                })
            }
            MountEdit::Add(mount) => Self::add(mount),
        }
    }

    fn add(mount: &Mount) -> Result<Self> {
        let at = new_struct::<crun_mount>()?;
        let (source, kind) = (string(mount.source.as_bytes())?, string(mount.kind.as_bytes())?);
        // SAFETY: `at` is a new block, zeroed and large enough.
        unsafe {
            (*at).source = source;
            (*at).type_ = kind;
        }
        let destination = string(mount.destination.as_bytes())?;
        Ok(Self { at, destination, options: strings(&mount.options)?, options_len: mount.options.len() })
    }

    /// # Safety
    /// Nothing else uses the entry at the same time.
    unsafe fn commit(&self) {
        // SAFETY: `at` is verified or a new block.
        unsafe {
            (*self.at).destination = self.destination;
            (*self.at).options = self.options;
            (*self.at).options_len = self.options_len;
        }
    }
}

/// The old rules and a new one for each device.
///
/// # Safety
/// `devices` is verified.
unsafe fn rules(devices: &Devices, new: &[DeviceRule]) -> Result<(*mut *mut libc::c_void, usize)> {
    let added = new.iter().map(|device| devices.layout.new_rule(device)).collect::<Result<Vec<_>>>()?;
    // SAFETY: the array is verified to have that many elements.
    let all = unsafe { extended((*devices.resources).devices, (*devices.resources).devices_len, &added) };
    Ok((array(&all)?, all.len()))
}

/// The elements at `old` followed by those of `new`.
///
/// # Safety
/// `old` is an array of `len` elements; it may be NULL if `len` is 0.
unsafe fn extended<T>(old: *mut *mut T, len: usize, new: &[*mut T]) -> Vec<*mut T> {
    // SAFETY: the index is below `len`.
    (0..len).map(|i| unsafe { *old.add(i) }).chain(new.iter().copied()).collect()
}
