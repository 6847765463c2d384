//! A disk's first sectors: whether a BIOS starts from it is the same whatever holds the disk.

use std::io::Write;
use std::path::Path;

use crun_qemu::host::image::{Disk, Format, bios_bootable, inspect};
use flate2::{Compression, write::DeflateEncoder};

use super::scratch::with_file;
use super::{knob, told};

const COMPRESSED: u64 = 1 << 62;

pub fn run(data: &[u8]) {
    let Some((knob, disk)) = knob(data) else { return };
    let mut disk = disk[..disk.len().min(64 << 10)].to_vec();
    disk.resize(disk.len().next_multiple_of(512).max(512), 0);
    let size = disk.len() as u64;
    let name = Path::new("disk");
    let look = |bytes: &[u8], format| {
        with_file(bytes, 0, |file| told(bios_bootable(name, file, &Disk { format, virtual_size: size })))
    };
    let raw = look(&disk, Format::Raw);
    assert!(raw.is_some(), "a raw disk is never damaged");
    let image = as_qcow2(&disk, 9 + (knob & 7) as u32, knob & 8 != 0);
    let found = with_file(&image, 0, |file| inspect(name, file, None));
    assert_eq!(found, Ok(Disk { format: Format::Qcow2, virtual_size: size }));
    assert_eq!(look(&image, Format::Qcow2), raw);
}

/// A version 2 image of the disk: header, L1 table, L2 tables, an unused refcount table, data.
fn as_qcow2(disk: &[u8], cluster_bits: u32, compressed: bool) -> Vec<u8> {
    let cluster = 1usize << cluster_bits;
    let entries = cluster / 8;
    let clusters = disk.len().div_ceil(cluster);
    let tables = clusters.div_ceil(entries);
    let l1_clusters = (tables * 8).div_ceil(cluster);
    let l2_at = (2 + l1_clusters) * cluster;
    let mut out = vec![0; l2_at + tables * cluster];
    let put = |out: &mut Vec<u8>, at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut out, 0, b"QFI\xfb\0\0\0\x02");
    put(&mut out, 20, &cluster_bits.to_be_bytes());
    put(&mut out, 24, &(disk.len() as u64).to_be_bytes());
    put(&mut out, 36, &(tables as u32).to_be_bytes());
    put(&mut out, 40, &(2 * cluster as u64).to_be_bytes());
    put(&mut out, 48, &(cluster as u64).to_be_bytes());
    put(&mut out, 56, &1u32.to_be_bytes());
    for table in 0..tables {
        put(&mut out, 2 * cluster + table * 8, &((l2_at + table * cluster) as u64).to_be_bytes());
    }
    for (n, data) in disk.chunks(cluster).enumerate() {
        let mut data = data.to_vec();
        data.resize(cluster, 0);
        if data.iter().all(|byte| *byte == 0) {
            continue;
        }
        let packed = deflated(&data);
        let entry = if compressed && packed.len() < cluster {
            let at = out.len();
            out.extend(packed);
            let sectors = (out.len() - 1) / 512 - at / 512;
            COMPRESSED | (sectors as u64) << (62 - (cluster_bits - 8)) | at as u64
        } else {
            out.resize(out.len().next_multiple_of(cluster), 0);
            let at = out.len();
            out.extend(data);
            at as u64
        };
        put(&mut out, l2_at + n * 8, &entry.to_be_bytes());
    }
    out
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("memory")
}
