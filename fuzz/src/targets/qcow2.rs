//! An image that somebody else made: header, extensions, refcounts, tables, compressed clusters.

use std::path::Path;

use crun_qemu::host::image::{Disk, Format, SECTOR, bios_bootable, inspect};

use super::scratch::with_file;
use super::{knob, told};

/// Holes behind the bytes: tables may lie there.
const HOLES: [u64; 4] = [0, 64 << 10, 1 << 20, 4 << 20];

pub fn run(data: &[u8]) {
    look(data);
}

/// The image that is accepted, if one is, and its bytes.
pub fn image_of(data: &[u8]) -> Option<(Disk, Vec<u8>)> {
    let (knob, bytes) = knob(data)?;
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len() + HOLES[knob & 3] as usize, 0);
    Some((look(data)?, bytes))
}

fn look(data: &[u8]) -> Option<Disk> {
    let (knob, bytes) = knob(data)?;
    let declared = [None, Some(Format::Qcow2), Some(Format::Raw), None][knob >> 2 & 3];
    let name = Path::new(["disk.img", "disk.qcow2"][knob >> 4 & 1]);
    with_file(bytes, HOLES[knob & 3], |file| {
        let disk = told(inspect(name, file, declared))?;
        assert!(disk.virtual_size > 0 && disk.virtual_size.is_multiple_of(SECTOR));
        assert!(declared.is_none_or(|format| format == disk.format));
        // From now on the format is declared.
        assert_eq!(inspect(name, file, Some(disk.format)), Ok(disk));
        told(bios_bootable(name, file, &disk));
        Some(disk)
    })
}
