//! Reading qcow2, versions 2 and 3. Numbers and names are those of the format's specification in QEMU's documentation.

mod complete;
mod header;
mod map;

pub(super) use complete::refuse_truncated;
pub(super) use header::{EXT_BACKING_FORMAT, Header, MAGIC};
pub(super) use map::Map;
