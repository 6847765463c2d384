//! An image that somebody else made: header, extensions, refcounts, tables, compressed clusters.

use std::path::Path;

use crun_qemu::image::{Format, SECTOR, bios_bootable, inspect};

use super::scratch::with_file;
use super::{knob, told};

/// Holes behind the bytes: tables may lie there.
const HOLES: [u64; 4] = [0, 64 << 10, 1 << 20, 4 << 20];

pub fn run(data: &[u8]) {
    let Some((knob, bytes)) = knob(data) else { return };
    let declared = [None, Some(Format::Qcow2), Some(Format::Raw), None][knob >> 2 & 3];
    let name = Path::new(["disk.img", "disk.qcow2"][knob >> 4 & 1]);
    with_file(bytes, HOLES[knob & 3], |file| {
        let Some(disk) = told(inspect(name, file, declared)) else { return };
        assert!(disk.virtual_size > 0 && disk.virtual_size.is_multiple_of(SECTOR));
        assert!(declared.is_none_or(|format| format == disk.format));
        // From now on the format is declared.
        assert_eq!(inspect(name, file, Some(disk.format)), Ok(disk));
        told(bios_bootable(name, file, &disk));
    });
}
