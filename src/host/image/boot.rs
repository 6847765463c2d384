//! Whether a PC BIOS can boot a disk.

use std::fs::File;
use std::path::Path;

use super::source::Source;
use super::{Disk, Format, SECTOR, qcow2};
use crate::error::Result;

/// End of the boot code in a master boot record, and start of its four partition entries (16 bytes each).
const BOOT_CODE: usize = 440;
const PARTITIONS: usize = 446;
/// MBR partition type that marks a disk with a GPT.
const PROTECTIVE: u8 = 0xee;

/// The GUID 21686148-6449-6E6F-744E-656564454649 as it lies on disk: GRUB's BIOS boot partition.
const BIOS_BOOT: &[u8; 16] = b"Hah!IdontNeedEFI";
/// Bit of a GPT entry's attributes: legacy BIOS bootable.
const LEGACY_BOOTABLE: u64 = 1 << 2;
/// Bounds on a GPT's entries. UEFI asks for at least 128 entries of 128 bytes, and nothing makes many more.
const MAX_ENTRIES: u32 = 1024;
const MAX_ENTRY_SIZE: u32 = 1024;

/// Whether a BIOS can boot the disk: sector 0 has a signature and code, and with a GPT there is also a partition for
/// BIOS.
///
/// # Errors
/// The image's own tables are damaged there. A damaged partition table is no error: such a disk does not boot by BIOS.
pub fn bios_bootable(name: &Path, file: &File, disk: &Disk) -> Result<bool> {
    let source = Source::open(name, file)?;
    let view = match disk.format {
        Format::Raw => View::Raw(&source),
        Format::Qcow2 => View::Qcow2(qcow2::Map::open(&source)?),
    };
    let guest = Guest { view, size: disk.virtual_size };
    let Some(mbr) = guest.read(0, SECTOR as usize)? else {
        return Ok(false);
    };
    if mbr[510..] != [0x55, 0xaa] || mbr[..BOOT_CODE].iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let types = mbr[PARTITIONS..510].chunks_exact(16).map(|entry| entry[4]);
    match types.into_iter().any(|kind| kind == PROTECTIVE) {
        true => gpt_has_bios_partition(&guest),
        false => Ok(true),
    }
}

/// A disk as its guest sees it.
struct Guest<'a> {
    view: View<'a>,
    size: u64,
}

enum View<'a> {
    Raw(&'a Source<'a>),
    Qcow2(qcow2::Map<'a>),
}

impl Guest<'_> {
    /// `len` bytes at `offset`, or nothing when the disk ends before.
    fn read(&self, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        match &self.view {
            View::Raw(source) => source.read_padded(offset, &mut bytes)?,
            View::Qcow2(map) => map.read(offset, &mut bytes)?,
        }
        Ok(Some(bytes))
    }
}

fn gpt_has_bios_partition(guest: &Guest) -> Result<bool> {
    let Some(header) = guest.read(SECTOR, SECTOR as usize)? else {
        return Ok(false);
    };
    let (count, size) = (le32(&header, 80), le32(&header, 84));
    let sane = header.starts_with(b"EFI PART") && count <= MAX_ENTRIES && (128..=MAX_ENTRY_SIZE).contains(&size);
    let (Some(offset), true) = (le64(&header, 72).checked_mul(SECTOR), sane) else {
        return Ok(false);
    };
    let Some(entries) = guest.read(offset, (count * size) as usize)? else {
        return Ok(false);
    };
    let for_bios = |entry: &[u8]| {
        let used = entry[..16].iter().any(|byte| *byte != 0);
        used && (entry.starts_with(BIOS_BOOT) || le64(entry, 48) & LEGACY_BOOTABLE != 0)
    };
    Ok(entries.chunks_exact(size as usize).any(for_bios))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
