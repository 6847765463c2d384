//! Whether the file is all there.

use super::super::SECTOR;
use super::super::source::Source;
use super::header::Header;
use crate::error::Result;

/// Refuses a file that ends before the last cluster that its refcounts count: a download that broke off.
///
/// The last refcount block tells, so this is a read or two whatever the image's size. Refcounts that are behind
/// (dirty image) make the check weaker, never wrong.
pub(in super::super) fn refuse_truncated(header: &Header, source: &Source) -> Result<()> {
    let mut table = vec![0; (header.refcount_table_clusters as usize) << header.cluster_bits];
    source.read(header.refcount_table, &mut table, "the refcount table")?;
    let entry = |bytes: &[u8]| bytes.iter().fold(0, |n: u64, b| n << 8 | u64::from(*b)) & !(SECTOR - 1);
    let Some((index, block)) = table.chunks_exact(8).map(entry).enumerate().rfind(|(_, block)| *block != 0) else {
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
    if last >= source.len() {
        let why =
            format!("the qcow2 image is cut off: data up to byte {last} and beyond, {} in the file", source.len());
        return Err(source.error(why).hint("fetch it again, or repair it with `qemu-img check -r all`"));
    }
    Ok(())
}
