//! Detection of a file's format.

use super::source::Source;
use super::{Format, SECTOR, qcow2};
use crate::error::Result;

pub(super) const CONVERT: &str = "convert other formats with `qemu-img convert -O qcow2` first";

/// A format that is refused, and the bytes in the first sector that identify it.
struct Foreign {
    name: &'static str,
    offset: usize,
    magic: &'static [u8],
    packed: bool,
}

const fn image(name: &'static str, offset: usize, magic: &'static [u8]) -> Foreign {
    Foreign { name, offset, magic, packed: false }
}

const fn packed(name: &'static str, magic: &'static [u8]) -> Foreign {
    Foreign { name, offset: 0, magic, packed: true }
}

const FOREIGN: [Foreign; 15] = [
    image("qcow version 1", 0, b"QFI\xfb\0\0\0\x01"),
    image("VMDK", 0, b"KDMV"),
    image("VMDK", 0, b"COWD"),
    image("VMDK (its descriptor)", 0, b"# Disk DescriptorFile"),
    image("VHDX", 0, b"vhdxfile"),
    image("VHD", 0, b"conectix"),
    image("VDI", 64, b"\x7f\x10\xda\xbe"),
    image("QED", 0, b"QED\0"),
    image("Parallels", 0, b"WithoutFreeSpace"),
    image("Parallels", 0, b"WithouFreSpacExt"),
    image("LUKS (encrypted)", 0, b"LUKS\xba\xbe"),
    packed("gzip", b"\x1f\x8b\x08"),
    packed("xz", b"\xfd7zXZ\0"),
    packed("zstd", b"\x28\xb5\x2f\xfd"),
    packed("bzip2", b"BZh"),
];

/// Endings of names that promise something else than a raw disk.
const NAMES: [&str; 7] = ["qcow2", "qcow", "vmdk", "vhdx", "vhd", "vdi", "qed"];

/// Finds the format by the file's first and last sector; raw is what nothing else claims.
pub(super) fn format(source: &Source) -> Result<Format> {
    let mut head = [0; SECTOR as usize];
    source.read_padded(0, &mut head)?;
    if let Some(foreign) = FOREIGN.iter().find(|f| head[f.offset..].starts_with(f.magic)) {
        let name = foreign.name;
        return Err(match foreign.packed {
            true => source.error(format!("compressed with {name}, not a disk image")).hint("unpack it first"),
            false => source.error(format!("the format is {name}, not qcow2 or raw")).hint(CONVERT),
        });
    }
    if head.starts_with(&qcow2::MAGIC) {
        return Ok(Format::Qcow2);
    }
    refuse_fixed_vhd(source)?;
    let ending = source.name().extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match NAMES.iter().find(|name| ending.as_deref() == Some(name)) {
        Some(name) => Err(source
            .error(format!("named .{name}, but the content is not: damaged, or another format"))
            .hint("`--format raw` if it is a raw disk")),
        None => Ok(Format::Raw),
    }
}

/// A VHD of fixed size is a raw disk with a sector more at its end, which the guest must not see.
fn refuse_fixed_vhd(source: &Source) -> Result<()> {
    let mut magic = [0; 8];
    if source.len() >= SECTOR {
        source.read(source.len() - SECTOR, &mut magic, "the last sector")?;
    }
    match &magic {
        b"conectix" => Err(source.error("the format is VHD, not qcow2 or raw").hint(CONVERT)),
        _ => Ok(()),
    }
}
