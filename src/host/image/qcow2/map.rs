//! Maps guest offsets to bytes in the file: L1 and L2 tables, subclusters, compressed clusters.

use std::io::Read;

use flate2::bufread::DeflateDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::super::SECTOR;
use super::super::source::Source;
use super::header::{Compression, Header};
use crate::error::Result;

/// Bits 9 to 55 of a table's entry: an offset in the file.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Subclusters of a cluster with an extended L2 entry.
const SUBCLUSTERS: u64 = 32;
/// Largest window of a zstd frame accepted, bytes: windows are no larger than the largest cluster; this is twice that.
const MAX_ZSTD_WINDOW: u64 = 4 << 20;

/// Reads a guest's bytes through an image's tables, keeping nothing: memory is bounded by a few clusters (2 MiB each).
pub(in super::super) struct Map<'a> {
    source: &'a Source<'a>,
    header: Header,
}

/// Location of one cluster's bytes.
enum Place {
    /// None: the cluster is zeros, because there is no backing file.
    Zero,
    /// Uncompressed, at this offset in the file.
    Plain(u64),
    /// Packed, at this offset, in at most so many bytes.
    Packed { offset: u64, max: u64 },
}

impl<'a> Map<'a> {
    pub(in super::super) fn open(source: &'a Source<'a>) -> Result<Self> {
        let header = Header::read(source)?;
        header.refuse_backing(source)?;
        Ok(Self { source, header })
    }

    /// Fills `buf` from the guest's `offset`.
    pub(in super::super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let unit = self.unit();
            let in_unit = at % unit;
            let len = (unit - in_unit).min(rest.len() as u64) as usize;
            let (head, tail) = rest.split_at_mut(len);
            self.read_within(at, head)?;
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Bytes that are mapped as one unit.
    fn unit(&self) -> u64 {
        match self.header.extended_l2 {
            true => self.header.cluster() / SUBCLUSTERS,
            false => self.header.cluster(),
        }
    }

    /// Fills `buf`, which does not cross a unit's end.
    fn read_within(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let in_cluster = at % self.header.cluster();
        match self.place(at)? {
            Place::Zero => buf.fill(0),
            Place::Plain(offset) => self.source.read(offset.saturating_add(in_cluster), buf, "a data cluster")?,
            Place::Packed { offset, max } => {
                let cluster = self.unpack(offset, max)?;
                let from = in_cluster as usize;
                buf.copy_from_slice(&cluster[from..from + buf.len()]);
            }
        }
        Ok(())
    }

    /// Looks up the cluster (or subcluster) with the guest's offset `at`.
    fn place(&self, at: u64) -> Result<Place> {
        let header = &self.header;
        let entries = header.cluster() / header.l2_entry();
        let index = at / header.cluster();
        if index / entries >= u64::from(header.l1_size) {
            return Err(self.source.error("qcow2: beyond the L1 table's end"));
        }
        let l1 = self.source.be64(header.l1_offset + index / entries * 8, "the L1 table")? & OFFSET;
        if l1 == 0 {
            return Ok(Place::Zero);
        }
        self.check_aligned(l1, "an L2 table")?;
        let at_l2 = l1 + index % entries * header.l2_entry();
        let l2 = self.source.be64(at_l2, "an L2 table")?;
        if l2 & COMPRESSED != 0 {
            return Ok(self.packed(l2));
        }
        let offset = l2 & OFFSET;
        self.check_aligned(offset, "a data cluster")?;
        let zero = match header.extended_l2 {
            true => self.subcluster_is_zero(at, at_l2)?,
            false if l2 & ZERO == 0 => false,
            false if header.version < 3 => return Err(self.source.error("qcow2: a zero cluster in version 2")),
            false => true,
        };
        Ok(if zero || offset == 0 { Place::Zero } else { Place::Plain(offset) })
    }

    fn check_aligned(&self, offset: u64, what: &str) -> Result<()> {
        match offset % self.header.cluster() {
            0 => Ok(()),
            _ => Err(self.source.error(format!("qcow2: {what} is not at a cluster's start"))),
        }
    }

    /// An extended entry's second word: bits 0 to 31 say "in the file", bits 32 to 63 "reads as zeros".
    fn subcluster_is_zero(&self, at: u64, at_l2: u64) -> Result<bool> {
        let bits = self.source.be64(at_l2 + 8, "an L2 table")?;
        let index = at % self.header.cluster() / self.unit();
        let (allocated, zero) = (bits >> index & 1 == 1, bits >> (index + 32) & 1 == 1);
        match (allocated, zero) {
            (true, true) => Err(self.source.error("qcow2: a subcluster is both data and zeros")),
            (allocated, _) => Ok(!allocated),
        }
    }

    /// Decodes a compressed cluster's descriptor: an offset, and the number of sectors after the one that contains it.
    fn packed(&self, descriptor: u64) -> Place {
        let bits = self.header.packed_offset_bits();
        let offset = descriptor & ((1 << bits) - 1);
        let sectors = (descriptor & (COMPRESSED - 1)) >> bits;
        Place::Packed { offset, max: (sectors + 1) * SECTOR - offset % SECTOR }
    }

    /// Unpacks one cluster; its last sector may end with the file.
    fn unpack(&self, offset: u64, max: u64) -> Result<Vec<u8>> {
        let there = max.min(self.source.len().saturating_sub(offset));
        let mut packed = vec![0; there as usize];
        if packed.is_empty() {
            return Err(self.source.error("a compressed cluster lies outside of the file: damaged or cut off"));
        }
        self.source.read(offset, &mut packed, "a compressed cluster")?;
        let mut cluster = vec![0; self.header.cluster() as usize];
        let whole = match self.header.compression {
            Compression::Deflate => DeflateDecoder::new(packed.as_slice()).read_exact(&mut cluster).is_ok(),
            Compression::Zstd => StreamingDecoder::new_with_max_window_size(packed.as_slice(), MAX_ZSTD_WINDOW)
                .is_ok_and(|mut decoder| decoder.read_exact(&mut cluster).is_ok()),
        };
        match whole {
            true => Ok(cluster),
            false => Err(self.source.error("qcow2: a compressed cluster cannot be unpacked: damaged")),
        }
    }
}
