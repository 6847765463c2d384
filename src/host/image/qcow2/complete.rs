//! Detection of truncated files.

use super::super::SECTOR;
use super::super::source::Source;
use super::header::Header;
use super::map::{COMPRESSED, OFFSET};
use crate::error::Result;

/// Bytes of L2 tables that are looked into at most. No disk of less than 8 TiB has more, with clusters of the usual
/// size.
const MOST: u64 = 1 << 30;

/// Refuses a file that ends before the last cluster that its refcounts count: an interrupted download.
///
/// The last refcount block is enough, so this takes a read or two whatever the image's size. Refcounts that lag behind
/// (dirty image) make the check weaker, never wrong. If they run ahead, as after a killed QEMU, the tables are read:
/// nothing that the guest can read may be missing.
pub(in super::super) fn refuse_truncated(header: &Header, source: &Source) -> Result<()> {
    let mut table = vec![0; (header.refcount_table_clusters as usize) << header.cluster_bits];
    source.read(header.refcount_table, &mut table, "the refcount table")?;
    let blocks: Vec<u64> = words(&table).map(|entry| entry & !(SECTOR - 1)).collect();
    let Some((index, block)) = blocks.into_iter().enumerate().rfind(|(_, block)| *block != 0) else {
        return Ok(());
    };
    let mut counts = vec![0; header.cluster() as usize];
    source.read(block, &mut counts, "a refcount block")?;
    let Some(byte) = counts.iter().rposition(|count| *count != 0) else {
        return Ok(());
    };
    let in_byte = u64::from(counts[byte].ilog2());
    let in_block = (byte as u64 * 8 + in_byte) >> header.refcount_order;
    let per_block = (header.cluster() * 8) >> header.refcount_order;
    let last = (index as u64 * per_block + in_block).saturating_mul(header.cluster());
    if last >= source.len() && !is_all_there(header, source) {
        let why =
            format!("the qcow2 image is cut off: data up to byte {last} and beyond, {} in the file", source.len());
        return Err(source.error(why).hint("fetch it again, or repair it with `qemu-img check -r all`"));
    }
    Ok(())
}

/// Whether everything that the guest can read is in the file.
fn is_all_there(header: &Header, source: &Source) -> bool {
    let Some(tables) = tables(header, source) else { return false };
    let mut l2 = vec![0; header.cluster() as usize];
    tables.into_iter().take((MOST / header.cluster()) as usize).all(|table| {
        source.read(table, &mut l2, "an L2 table").is_ok()
            && words(&l2).step_by(header.l2_entry() as usize / 8).all(|entry| begin(header, entry) < source.len())
    })
}

/// The L2 tables, each once: a sound image has no more of them than clusters. `None` if one is missing.
///
/// The image's author decides how often a table is named, and every table is read. So the work is bounded by the file's
/// length, and by [`MOST`] for a file that is mostly a hole.
fn tables(header: &Header, source: &Source) -> Option<Vec<u64>> {
    let mut l1 = vec![0; header.l1_size as usize * 8];
    if header.snapshots > 0 || source.read(header.l1_offset, &mut l1, "the L1 table").is_err() {
        return None;
    }
    let mut tables: Vec<u64> = words(&l1).map(|entry| entry & OFFSET).filter(|offset| *offset != 0).collect();
    tables.sort_unstable();
    tables.dedup();
    let is_there = |table: &u64| table.is_multiple_of(header.cluster()) && source.contains(*table, header.cluster());
    tables.iter().all(is_there).then_some(tables)
}

/// Offset of the data of an L2 entry in the file; 0 if there are none.
fn begin(header: &Header, entry: u64) -> u64 {
    let packed = (1 << header.packed_offset_bits()) - 1;
    if entry & COMPRESSED != 0 { entry & packed } else { entry & OFFSET }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| word.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}
