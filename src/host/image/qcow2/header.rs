//! The header and its extensions.

use super::super::source::Source;
use super::super::{MAX_SIZE, SECTOR};
use crate::error::Result;

/// First bytes of every qcow2 file.
pub(in super::super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Length of a version 2 header, and the least of a version 3 header, in bytes.
const V2_LENGTH: u64 = 72;
const V3_LENGTH: u64 = 104;
/// The largest tables that QEMU reads, in bytes.
const MAX_L1: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// The longest name of a backing file, in bytes.
const MAX_BACKING_NAME: u32 = 1023;

/// Incompatible features: dirty (refcounts to be mended, of no account to readers), corrupt, external data file,
/// compression type, extended L2 entries.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Header extensions that matter here.
const EXT_END: u32 = 0;
pub(in super::super) const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXT_ENCRYPTION: u32 = 0x0537_be77;
const EXT_DATA_FILE: u32 = 0x4441_5441;

/// Compression of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Compression {
    /// Deflate without zlib's header.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

/// A backing file, as named in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Backing {
    pub(in super::super) name: Vec<u8>,
    pub(in super::super) format: Option<Vec<u8>>,
}

/// A header that was found to be sound: offsets are aligned, tables are within the file and not larger than QEMU's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(in super::super) l1_offset: u64,
    pub(in super::super) l1_size: u32,
    pub(super) compression: Compression,
    pub(super) extended_l2: bool,
    pub(in super::super) backing: Option<Backing>,
    size: u64,
    pub(super) refcount_table: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) refcount_order: u32,
    pub(super) snapshots: u32,
}

/// The header's bytes, by the specification's offsets; zeros where a shorter header ends.
struct Fields([u8; 112]);

impl Fields {
    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn be64(&self, at: usize) -> u64 {
        u64::from(self.be32(at)) << 32 | u64::from(self.be32(at + 4))
    }
}

impl Header {
    /// Reads and judges the header of `source`.
    pub(in super::super) fn read(source: &Source) -> Result<Self> {
        let (fields, length) = read_fields(source)?;
        let cluster_bits = fields.be32(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(source.error(format!("qcow2 header: clusters of 2^{cluster_bits} bytes are not possible")));
        }
        if length > 1 << cluster_bits {
            return Err(source.error(format!("qcow2 header: {length} bytes do not fit into a cluster")));
        }
        if fields.be32(32) != 0 {
            return Err(source.error("the qcow2 image is encrypted").hint(DECRYPT));
        }
        let features = fields.be64(72);
        refuse_features(source, features)?;
        let mut header = Header {
            version: fields.be32(4),
            cluster_bits,
            l1_offset: fields.be64(40),
            l1_size: fields.be32(36),
            compression: compression(source, features, fields.0[104])?,
            extended_l2: features & EXTENDED_L2 != 0,
            backing: None,
            size: fields.be64(24),
            refcount_table: fields.be64(48),
            refcount_table_clusters: fields.be32(56),
            snapshots: fields.be32(60),
            refcount_order: if fields.be32(4) == 2 { 4 } else { fields.be32(96) },
        };
        header.check_tables(source)?;
        header.read_extensions(source, &fields, length)?;
        Ok(header)
    }

    /// Size that a guest sees in bytes; QEMU counts in whole sectors.
    pub(in super::super) fn virtual_size(&self) -> u64 {
        self.size / SECTOR * SECTOR
    }

    /// Refuses an image that is only a layer over another file.
    pub(in super::super) fn refuse_backing(&self, source: &Source) -> Result<()> {
        match &self.backing {
            None => Ok(()),
            Some(backing) => {
                let name = String::from_utf8_lossy(&backing.name);
                Err(source.error(format!("the qcow2 image has a backing file, {name:?}")).hint(FLATTEN))
            }
        }
    }

    /// Size of a cluster in bytes, 512 to 2 MiB.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Number of bits of the offset in a compressed cluster's descriptor.
    pub(super) fn packed_offset_bits(&self) -> u32 {
        62 - (self.cluster_bits - 8)
    }

    /// Size of an L2 entry in bytes.
    pub(super) fn l2_entry(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Number of L1 entries for a disk of `size` bytes; `None` if they do not fit into the table's clusters.
    pub(in super::super) fn l1_entries(&self, size: u64) -> Option<u32> {
        let entries = size.div_ceil(self.l1_covers());
        let room = (u64::from(self.l1_size) * 8).next_multiple_of(self.cluster());
        u32::try_from(entries).ok().filter(|n| u64::from(*n) * 8 <= room)
    }

    /// Bytes covered by an L1 entry: an L2 table of one cluster.
    fn l1_covers(&self) -> u64 {
        self.cluster() / self.l2_entry() * self.cluster()
    }

    fn check_tables(&self, source: &Source) -> Result<()> {
        let bad = |why: String| Err(source.error(format!("qcow2 header: {why}")));
        if self.virtual_size() == 0 || self.size > MAX_SIZE {
            return bad(format!("a virtual size of {} bytes is not possible", self.size));
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return bad("clusters are too small for extended L2 entries".into());
        }
        if self.refcount_order > 6 {
            return bad(format!("refcounts of 2^{} bits are not possible", self.refcount_order));
        }
        let covered = u128::from(self.l1_size) * u128::from(self.l1_covers());
        if covered < u128::from(self.size) {
            return bad(format!("the L1 table is too small for a disk of {} bytes", self.size));
        }
        let l1_bytes = u64::from(self.l1_size) * 8;
        self.check_table(source, "L1 table", self.l1_offset, l1_bytes, MAX_L1)?;
        let refcount_bytes = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        self.check_table(source, "refcount table", self.refcount_table, refcount_bytes, MAX_REFCOUNT_TABLE)
    }

    fn check_table(&self, source: &Source, name: &str, offset: u64, bytes: u64, max: u64) -> Result<()> {
        let bad = |why: &str| Err(source.error(format!("qcow2 header: the {name} {why}")));
        if bytes == 0 {
            return bad("is empty");
        }
        if bytes > max {
            return bad("is too large");
        }
        if offset == 0 || !offset.is_multiple_of(self.cluster()) {
            return bad("is not at a cluster's start");
        }
        if !source.contains(offset, bytes) {
            return bad("lies outside of the file: damaged or cut off");
        }
        Ok(())
    }

    /// Walks the extensions between the header's end and the backing file's name (else the cluster's end).
    fn read_extensions(&mut self, source: &Source, fields: &Fields, length: u64) -> Result<()> {
        let (name_offset, name_len) = (fields.be64(8), fields.be32(16));
        let has_backing = name_offset != 0 || name_len != 0;
        let end = if name_offset == 0 { self.cluster() } else { name_offset.min(self.cluster()) };
        let mut format = None;
        let mut at = length;
        while at + 8 <= end {
            let word = source.be64(at, "a qcow2 header extension")?;
            let (kind, len) = ((word >> 32) as u32, word & 0xffff_ffff);
            at += 8;
            if kind == EXT_END {
                break;
            }
            if len > end.saturating_sub(at) {
                return Err(source.error("qcow2 header: an extension runs over its end"));
            }
            match kind {
                EXT_ENCRYPTION => return Err(source.error("the qcow2 image is encrypted").hint(DECRYPT)),
                EXT_DATA_FILE => return Err(source.error(OTHER_FILE).hint(FLATTEN)),
                EXT_BACKING_FORMAT if len <= 16 => {
                    let mut bytes = vec![0; len as usize];
                    source.read(at, &mut bytes, "the backing format")?;
                    format = Some(bytes);
                }
                _ => {}
            }
            at += len.next_multiple_of(8);
        }
        if has_backing {
            let name = self.backing_name(source, name_offset, name_len)?;
            self.backing = Some(Backing { name, format });
        }
        Ok(())
    }

    fn backing_name(&self, source: &Source, offset: u64, len: u32) -> Result<Vec<u8>> {
        if len > MAX_BACKING_NAME || offset.saturating_add(u64::from(len)) > self.cluster() {
            return Err(source.error("the qcow2 image has a backing file, and its name is damaged"));
        }
        let mut name = vec![0; len as usize];
        source.read(offset, &mut name, "the backing file's name")?;
        Ok(name)
    }
}

const DECRYPT: &str = "decrypt it with `qemu-img convert -O qcow2` first";
const FLATTEN: &str = "make one file of it with `qemu-img convert -O qcow2` first";
const OTHER_FILE: &str = "the qcow2 image keeps its data in another file";

/// The header's fields and its length in bytes.
fn read_fields(source: &Source) -> Result<(Fields, u64)> {
    let cut = || source.error(format!("the qcow2 header is cut off: the file has {} bytes", source.len()));
    let mut fields = Fields([0; 112]);
    source.read_padded(0, &mut fields.0)?;
    if !fields.0.starts_with(&MAGIC) {
        return Err(source.error("not a qcow2 image").hint("`--format raw` if it is a raw disk"));
    }
    if source.len() < V2_LENGTH {
        return Err(cut());
    }
    let length = match fields.be32(4) {
        2 => V2_LENGTH,
        3 if source.len() < V3_LENGTH => return Err(cut()),
        3 => match u64::from(fields.be32(100)) {
            length if length >= V3_LENGTH && length.is_multiple_of(8) => length,
            length => return Err(source.error(format!("qcow2 header: a header of {length} bytes is not possible"))),
        },
        version => return Err(source.error(format!("version {version} of qcow2 is not known: 2 and 3 are"))),
    };
    if !source.contains(0, length) {
        return Err(cut());
    }
    // Beyond the header's own length there are extensions, not fields.
    if let Some(beyond) = fields.0.get_mut(length as usize..) {
        beyond.fill(0);
    }
    Ok((fields, length))
}

fn refuse_features(source: &Source, features: u64) -> Result<()> {
    let unknown = features & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);
    if features & CORRUPT != 0 {
        return Err(source.error("the qcow2 image is marked corrupt").hint("repair it with `qemu-img check -r all`"));
    }
    if features & DATA_FILE != 0 {
        return Err(source.error(OTHER_FILE).hint(FLATTEN));
    }
    if unknown != 0 {
        return Err(source.error(format!("the qcow2 image has features that are not known: {unknown:#x}")));
    }
    Ok(())
}

fn compression(source: &Source, features: u64, kind: u8) -> Result<Compression> {
    match (features & COMPRESSION != 0, kind) {
        (false, 0) => Ok(Compression::Deflate),
        (true, 1) => Ok(Compression::Zstd),
        (_, kind) => Err(source.error(format!("qcow2 header: compression type {kind} is not known or not announced"))),
    }
}
