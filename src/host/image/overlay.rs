//! The qcow2 overlay that takes a guest's writes.
//!
//! Written here rather than by `qemu-img`, which would open the image: an empty overlay is a header and a few tables.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::qcow2::{EXT_BACKING_FORMAT, Header, MAGIC};
use super::source::Source;
use super::{Disk, Format, MAX_SIZE, SECTOR};
use crate::error::{Context, Error, Result};

/// QEMU's own default: 64 KiB.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes covered by an L1 entry: an L2 table of one cluster, 8 bytes for each data cluster.
const L1_COVERS: u64 = CLUSTER / 8 * CLUSTER;
/// The largest L1 table that QEMU reads is 32 MiB.
const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;
/// Bytes of a version 3 header with the compression type and its padding.
const HEADER_LENGTH: u32 = 112;
/// QEMU's bound on a backing file's name, in bytes.
const MAX_BACKING_NAME: usize = 1023;

/// Offset of the size in the header.
const SIZE_FIELD: u64 = 24;

/// Layout of a new overlay: header, refcount table, one refcount block, L1 table.
const REFCOUNT_TABLE: u64 = CLUSTER;
const REFCOUNT_BLOCK: u64 = 2 * CLUSTER;
const L1_TABLE: u64 = 3 * CLUSTER;

/// Makes the file `path` (mode 0600, which must not exist) and [`write()`]s an empty overlay to it.
///
/// For paths that the caller trusts; below an untrusted root make the file through [`crate::host::rootfs`] and use
/// [`write()`].
pub fn create(path: &Path, backing: &str, format: Format, virtual_size: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context(path.display())?;
    write(path, &file, backing, format, virtual_size).inspect_err(|_| {
        // The pending error matters more than a failure to clean up.
        let _ = std::fs::remove_file(path);
    })
}

/// Writes an empty overlay over `backing` to the new, empty `file`, called `name` in messages.
///
/// `backing` is the absolute path by which QEMU finds the image, of the given `format`, and is not looked at.
/// `virtual_size` is in bytes and rounded up to whole sectors; beyond the image's end the guest reads zeros.
pub fn write(name: &Path, file: &File, backing: &str, format: Format, virtual_size: u64) -> Result<()> {
    let refuse = |why: String| Err(Error::new(name.display().to_string(), why));
    // QEMU takes what stands before a colon for a protocol; a slash in front rules that out.
    if !backing.starts_with('/') || backing.len() > MAX_BACKING_NAME || backing.contains('\0') {
        return refuse(format!("{backing:?} cannot be a backing file: not an absolute path, or too long"));
    }
    let l1_entries = virtual_size.div_ceil(L1_COVERS);
    if virtual_size == 0 || virtual_size > MAX_SIZE || l1_entries > MAX_L1_ENTRIES {
        return refuse(format!("a disk of {virtual_size} bytes is not possible (1 byte to 2 PiB)"));
    }
    let clusters = L1_TABLE / CLUSTER + (l1_entries * 8).div_ceil(CLUSTER);
    // One refcount block counts 32768 clusters; the largest L1 table has 512.
    let refcounts: Vec<u8> = (0..clusters).flat_map(|_| 1u16.to_be_bytes()).collect();
    let header = header(backing, format, virtual_size.next_multiple_of(SECTOR), l1_entries as u32);
    file.set_len(clusters * CLUSTER).context(name.display())?;
    file.write_all_at(&refcounts, REFCOUNT_BLOCK).context(name.display())?;
    file.write_all_at(&REFCOUNT_BLOCK.to_be_bytes(), REFCOUNT_TABLE).context(name.display())?;
    file.write_all_at(&header, 0).context(name.display())
}

/// Judges an overlay that was made earlier: sound, and over just the `backing` that [`write()`] was given.
///
/// # Errors
/// As [`super::inspect`], and when the overlay is over another file or declares another format for it.
pub fn inspect(name: &Path, file: &File, backing: &str, format: Format) -> Result<Disk> {
    let source = Source::open(name, file)?;
    let header = Header::read(&source)?;
    let ours = header.backing.as_ref().is_some_and(|found| {
        found.name == backing.as_bytes() && found.format.as_deref() == Some(format.name().as_bytes())
    });
    match ours {
        true => Ok(Disk { format: Format::Qcow2, virtual_size: header.virtual_size() }),
        false => Err(source.error(format!("not an overlay over {backing} ({format})"))),
    }
}

/// Grows the overlay in `file`, which [`inspect`] found sound and which is open for writing, to `size` bytes, rounded
/// up to whole sectors. `name` is for messages.
///
/// # Errors
/// It is larger already, or the L1 table has no room.
pub fn grow(name: &Path, file: &File, size: u64) -> Result<()> {
    let source = Source::open(name, file)?;
    let header = Header::read(&source)?;
    let (old, new) = (header.virtual_size(), size.next_multiple_of(SECTOR));
    if new < old {
        let why = format!("{size} bytes are less than the {old} that the container's disk has");
        return Err(Error::new("--disk-size", why).hint("a disk can only grow"));
    }
    if new == old {
        return Ok(());
    }
    let entries = header.l1_entries(new).ok_or_else(|| {
        let why = format!("the container's disk cannot grow from {old} to {new} bytes");
        Error::new("--disk-size", why).hint("make a new container from the image")
    })?;
    // An L1 table may be longer than its disk needs yet.
    let entries = entries.max(header.l1_size);
    let fresh = vec![0; (entries - header.l1_size) as usize * 8];
    file.write_all_at(&fresh, header.l1_offset + u64::from(header.l1_size) * 8).context(name.display())?;
    // Size, method of encryption (none) and the L1 table's length are beside each other: it is one write.
    let fields = [&new.to_be_bytes()[..], &[0; 4], &entries.to_be_bytes()].concat();
    file.write_all_at(&fields, SIZE_FIELD).context(name.display())
}

/// The first cluster's content: header, extensions, the backing file's name.
fn header(backing: &str, format: Format, size: u64, l1_entries: u32) -> Vec<u8> {
    let format = format.name().as_bytes();
    let mut extensions = Vec::new();
    extensions.extend(EXT_BACKING_FORMAT.to_be_bytes());
    extensions.extend((format.len() as u32).to_be_bytes());
    extensions.extend(format);
    // Padding of the format's name to 8 bytes, then the end mark: type 0, length 0.
    extensions.resize(8 + format.len().next_multiple_of(8) + 8, 0);
    let name_offset = u64::from(HEADER_LENGTH) + extensions.len() as u64;

    let mut out = Vec::new();
    let be32 = |out: &mut Vec<u8>, value: u32| out.extend(value.to_be_bytes());
    let be64 = |out: &mut Vec<u8>, value: u64| out.extend(value.to_be_bytes());
    out.extend(MAGIC);
    be32(&mut out, 3); // version
    be64(&mut out, name_offset);
    be32(&mut out, backing.len() as u32);
    be32(&mut out, CLUSTER_BITS);
    be64(&mut out, size);
    be32(&mut out, 0); // no encryption
    be32(&mut out, l1_entries);
    be64(&mut out, L1_TABLE);
    be64(&mut out, REFCOUNT_TABLE);
    be32(&mut out, 1); // clusters of the refcount table
    be32(&mut out, 0); // snapshots
    be64(&mut out, 0); // snapshot table
    be64(&mut out, 0); // incompatible features
    be64(&mut out, 0); // compatible features
    be64(&mut out, 0); // autoclear features
    be32(&mut out, 4); // refcounts of 2^4 bits
    be32(&mut out, HEADER_LENGTH);
    be64(&mut out, 0); // compression type deflate, padding
    out.extend(extensions);
    out.extend(backing.as_bytes());
    out
}
