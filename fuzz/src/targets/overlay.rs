//! An overlay that a guest's QEMU has written to since it was made, and that is then asked to grow.
//!
//! After the knob either the file's first bytes, or what to change in one of ours: two bytes of place, one of value.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crun_qemu::host::image::overlay::{grow, inspect, write};
use crun_qemu::host::image::{Format, SECTOR};

use super::scratch::with_file;
use super::{knob, told};

const BACKING: &str = "/crun-qemu/image";

pub fn run(data: &[u8]) {
    let Some((knob, bytes)) = knob(data) else { return };
    let Some((size, bytes)) = bytes.split_first_chunk() else { return };
    let size = u64::from_be_bytes(*size) >> (knob >> 2 & 31);
    let name = Path::new("overlay.qcow2");
    let format = [Format::Qcow2, Format::Raw][knob >> 1 & 1];
    let ours = knob & 1 == 1;
    with_file(if ours { &[] } else { bytes }, if ours { 0 } else { 4 << 16 }, |file| {
        if ours {
            if told(write(name, file, BACKING, format, size)).is_none() {
                return;
            }
            let made = inspect(name, file, BACKING, format).expect("our own, new");
            assert_eq!(made.virtual_size, size.next_multiple_of(SECTOR));
            for change in bytes.chunks_exact(3) {
                let place = u64::from(u16::from_be_bytes([change[0], change[1]]));
                // The header, or the L1 table.
                let place = if place < 1 << 15 { place } else { place - (1 << 15) + (3 << 16) };
                file.write_all_at(&change[2..], place).expect("write");
            }
        }
        let Some(disk) = told(inspect(name, file, BACKING, format)) else { return };
        let length = file.metadata().expect("metadata").len();
        match told(grow(name, file, size)) {
            Some(()) => {
                let grown = inspect(name, file, BACKING, format).expect("what grew is still an overlay");
                assert_eq!(grown.virtual_size, size.next_multiple_of(SECTOR));
            }
            None => assert_eq!(inspect(name, file, BACKING, format), Ok(disk), "a refusal changes nothing"),
        }
        assert_eq!(length, file.metadata().expect("metadata").len(), "it grows within its tables");
    });
}
