use super::*;

const EF: u8 = 0xef;
const EE: u8 = 0xee;

/// Sector 0: boot code, signature, the first partition's type.
fn mbr(code: u8, signature: [u8; 2], kind: u8) -> Vec<u8> {
    let mut disk = vec![0; 64 << 10];
    disk[439] = code;
    disk[440..446].copy_from_slice(b"serial");
    disk[446 + 4] = kind;
    disk[510..512].copy_from_slice(&signature);
    disk
}

/// A GPT whose entry number `index` has this type and these attributes.
fn gpt(entry_size: u32, index: usize, kind: &[u8; 16], attributes: u64) -> Vec<u8> {
    let mut disk = mbr(1, [0x55, 0xaa], EE);
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[584..592].copy_from_slice(&2u64.to_le_bytes());
    disk[592..596].copy_from_slice(&128u32.to_le_bytes());
    disk[596..600].copy_from_slice(&entry_size.to_le_bytes());
    let at = 1024 + index * entry_size as usize;
    disk[at..at + 16].copy_from_slice(kind);
    disk[at + 48..at + 56].copy_from_slice(&attributes.to_le_bytes());
    disk
}

#[test]
fn what_a_bios_can_start() {
    let linux = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
    let bios = *b"Hah!IdontNeedEFI";
    let signed = [0x55, 0xaa];
    let patched = |mut disk: Vec<u8>, at: usize, bytes: &[u8]| {
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        disk
    };
    let cases = [
        ("boot code", mbr(1, signed, 0x83), true),
        ("boot code without partitions", mbr(1, signed, 0), true),
        ("boot code beside an EFI partition", mbr(1, signed, EF), true),
        ("no boot code", mbr(0, signed, 0x83), false),
        ("not signed", mbr(1, [0, 0], 0x83), false),
        ("signed backwards", mbr(1, [0xaa, 0x55], 0x83), false),
        ("nothing", vec![0; 4096], false),
        ("one sector, GPT missing", mbr(1, signed, EE)[..512].to_vec(), false),
        ("protective, GPT empty", mbr(1, signed, EE), false),
        ("GPT without a BIOS partition", gpt(128, 0, &linux, 0), false),
        ("GPT with a BIOS partition", gpt(128, 0, &bios, 0), true),
        ("GPT with a BIOS partition, last", gpt(128, 127, &bios, 0), true),
        ("GPT with large entries", gpt(256, 99, &bios, 0), true),
        ("GPT, legacy bootable", gpt(128, 3, &linux, 4), true),
        ("GPT, other attributes", gpt(128, 3, &linux, !4), false),
        ("GPT, attributes of an unused entry", gpt(128, 3, &[0; 16], 4), false),
        ("GPT, but no boot code", patched(gpt(128, 0, &bios, 0), 439, &[0]), false),
        ("GPT unsigned", patched(gpt(128, 0, &bios, 0), 512, b"XFI"), false),
        ("GPT, entries beyond the disk", patched(gpt(128, 0, &bios, 0), 584, &u64::MAX.to_le_bytes()), false),
        ("GPT, entries just beyond the disk", patched(gpt(128, 0, &bios, 0), 584, &100u64.to_le_bytes()), false),
        ("GPT, absurd count", patched(gpt(128, 0, &bios, 0), 592, &[0xff; 4]), false),
        ("GPT, entries of no size", patched(gpt(128, 0, &bios, 0), 596, &[0; 4]), false),
        ("GPT, absurd size", patched(gpt(128, 0, &bios, 0), 596, &[0xff; 4]), false),
    ];
    for (what, disk, want) in cases {
        let bench = Bench::new();
        bench.convert(&disk, "-o cluster_size=512", "x.qcow2");
        for name in ["source.raw", "x.qcow2"] {
            let looked = bench.inspect(name, None).unwrap();
            assert_eq!(bench.bootable(name, &looked), Ok(want), "{what}, {name}");
        }
    }
}
