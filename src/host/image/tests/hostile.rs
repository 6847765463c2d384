use std::os::unix::fs::FileExt;

use super::*;

/// Header fields that are wrong, each in an otherwise good image of version 3 with clusters of 64 KiB.
#[test]
fn damaged_headers_are_refused_with_their_reason() {
    let cases: [(usize, &[u8], &str); 30] = [
        (4, &[0, 0, 0, 4], "version 4 of qcow2 is not known: 2 and 3 are"),
        (4, &[0xff; 4], "version 4294967295 of qcow2 is not known: 2 and 3 are"),
        (8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3], "has a backing file, \"\\0\\0\\0\" (make one"),
        (8, &[0xff; 12], "has a backing file, and its name is damaged"),
        (16, &[0, 0, 0, 1], "has a backing file"),
        (20, &[0, 0, 0, 8], "clusters of 2^8 bytes are not possible"),
        (20, &[0, 0, 0, 22], "clusters of 2^22 bytes are not possible"),
        (20, &[0xff; 4], "clusters of 2^4294967295 bytes are not possible"),
        (24, &[0; 8], "a virtual size of 0 bytes is not possible"),
        (24, &[0, 0, 0, 0, 0, 0, 1, 255], "a virtual size of 511 bytes is not possible"),
        (24, &[0xff; 8], "a virtual size of 18446744073709551615 bytes is not possible"),
        (24, &[0, 0, 0, 0x80, 0, 0, 0, 0], "the L1 table is too small for a disk of 549755813888 bytes"),
        (32, &[0, 0, 0, 1], "is encrypted"),
        (32, &[0, 0, 0, 2], "is encrypted"),
        (36, &[0; 4], "the L1 table is too small"),
        (36, &[0, 0x40, 0, 1], "the L1 table is too large"),
        (36, &[0, 0x40, 0, 0], "the L1 table lies outside of the file: damaged or cut off"),
        (40, &[0; 8], "the L1 table is not at a cluster's start"),
        (40, &[0, 0, 0, 0, 0, 3, 2, 0], "the L1 table is not at a cluster's start"),
        (40, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], "the L1 table lies outside of the file"),
        (48, &[0, 0, 1, 0, 0, 0, 0, 0], "the refcount table lies outside of the file"),
        (56, &[0; 4], "the refcount table is empty"),
        (56, &[0xff; 4], "the refcount table is too large"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 2], "is marked corrupt (repair it with `qemu-img check -r all`)"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 4], "keeps its data in another file"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 32], "has features that are not known: 0x20"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 8], "compression type 0 is not known or not announced"),
        (96, &[0, 0, 0, 7], "refcounts of 2^7 bits are not possible"),
        (100, &[0, 0, 0, 72], "a header of 72 bytes is not possible"),
        (104, &[1], "compression type 1 is not known or not announced"),
    ];
    let bench = Bench::new();
    let good = std::fs::read(bench.convert(&disk(), "", "good")).unwrap();
    for (at, bytes, want) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bench.write("x", &bad);
        let message = bench.inspect("x", None).unwrap_err();
        assert!(message.starts_with("x: ") && message.contains(want), "{at}: {message} / {want}");
    }
    // Dirty means that refcounts are behind: nothing to somebody who only reads.
    let mut dirty = good.clone();
    dirty[79] = 1;
    bench.write("x", &dirty);
    assert!(bench.inspect("x", None).is_ok());
}

#[test]
fn damaged_extensions_are_refused() {
    let cases: [(&[u8], &str); 4] = [
        (&[1, 2, 3, 4, 0, 1, 0, 0], "an extension runs over its end"),
        (&[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff], "an extension runs over its end"),
        (&[0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16], "is encrypted"),
        (&[0x44, 0x41, 0x54, 0x41, 0, 0, 0, 4], "keeps its data in another file"),
    ];
    let bench = Bench::new();
    let good = std::fs::read(bench.convert(&disk(), "", "good")).unwrap();
    for (extension, want) in cases {
        let mut bad = good.clone();
        bad[112..120].copy_from_slice(extension);
        bench.write("x", &bad);
        let message = bench.inspect("x", None).unwrap_err();
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused_wherever() {
    for options in super::qcow2::KINDS {
        let bench = Bench::new();
        let good = std::fs::read(bench.convert(&disk(), options, "good")).unwrap();
        let info: serde_json::Value = serde_json::from_str(&bench.qemu_img("info --output=json good")).unwrap();
        let cluster = info["cluster-size"].as_u64().unwrap() as usize;
        let last = (good.len() - 1) / cluster * cluster;
        let steps = (last / cluster).div_ceil(64) * cluster;
        for len in [1, 3, 4, 8, 71, 72, 103, 104, 111, 511].into_iter().chain((512..last).step_by(steps)).chain([last])
        {
            bench.write("x.qcow2", &good[..len]);
            assert!(bench.inspect("x.qcow2", None).is_err(), "{options}: {len} of {} bytes", good.len());
        }
    }
}

#[test]
fn damaged_tables_are_errors_when_they_are_used() {
    let bench = Bench::new();
    let good = std::fs::read(bench.convert(&disk(), "", "good")).unwrap();
    let be64 = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let l1 = be64(40) as usize;
    let l2 = (be64(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let outside = "lies outside of the file: damaged or cut off";
    let cases = [
        (l1, 1 << 40, format!("an L2 table {outside}")),
        (l1, 0x200, "qcow2: an L2 table is not at a cluster's start".into()),
        (l2, 1 << 40, format!("a data cluster {outside}")),
        (l2, 0x50200, "qcow2: a data cluster is not at a cluster's start".into()),
        (l2, 1 << 62 | 1 << 40, format!("a compressed cluster {outside}")),
        (l2, 1 << 62, "qcow2: a compressed cluster cannot be unpacked: damaged".into()),
    ];
    for (at, entry, want) in cases {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&u64::to_be_bytes(entry));
        bench.write("x", &bad);
        let disk = bench.inspect("x", None).unwrap();
        assert_eq!(bench.bootable("x", &disk), Err(format!("x: {want}")));
    }
    // A cluster that is not there, or reads as zeros, is no error.
    for entry in [0, 1, 0x50001_u64] {
        let mut empty = good.clone();
        empty[l2..l2 + 8].copy_from_slice(&entry.to_be_bytes());
        bench.write("x", &empty);
        let disk = bench.inspect("x", None).unwrap();
        assert_eq!(bench.bootable("x", &disk), Ok(false));
    }
}

/// Flips every bit of the header, and bits all over the rest: whatever comes, it is an answer or one line of text.
#[test]
fn flipped_bits_never_panic() {
    let kinds = ["", "-o compat=0.10", "-c", "-c -o compression_type=zstd", "-o extended_l2=on", "-o cluster_size=512"];
    for options in kinds {
        let bench = Bench::new();
        let mut disk = disk();
        disk.truncate(64 << 10);
        disk[1024..].copy_from_slice(&noise(63 << 10));
        let path = bench.convert(&disk, options, "x");
        let mut bytes = std::fs::read(&path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // All bits of the header, one bit here and there of all else that is not zero.
        let rest: Vec<usize> = (256..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let rest = rest.iter().step_by((rest.len() / 400).max(1)).map(|at| (*at, at % 8));
        let places = (0..256).flat_map(|at| (0..8).map(move |bit| (at, bit))).chain(rest);
        let mut refused = 0;
        for (at, bit) in places {
            let flip = |bytes: &mut [u8]| {
                bytes[at] ^= 1 << bit;
                file.write_all_at(&bytes[at..=at], at as u64).unwrap();
            };
            flip(&mut bytes);
            if let Err(e) = inspect(&path, &file, None).and_then(|disk| bios_bootable(&path, &file, &disk)) {
                refused += 1;
                assert!(!e.to_string().contains('\n'));
            }
            flip(&mut bytes);
        }
        assert!(refused > 300, "{options}: only {refused}");
        assert!(inspect(&path, &file, None).is_ok());
    }
}

/// Bytes that this thread has read from files so far.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// An L1 table as long as they come, whose entries all name one table of 2 MiB, and refcounts that have every table
/// read.
#[test]
fn an_l2_table_that_is_named_often_is_read_once() {
    const CLUSTER: usize = 2 << 20;
    let bench = Bench::new();
    bench.qemu_img("create -q -f qcow2 -o cluster_size=2M x 32P");
    let mut image = std::fs::read(bench.path("x")).unwrap();
    let be64 = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    image.resize(image.len().next_multiple_of(CLUSTER), 0);
    let (l1, table, entries) = (be64(&image, 40), image.len(), be64(&image, 32) as u32 as usize);
    assert!(entries >= 1 << 16, "{entries}");
    image[l1..l1 + entries * 8].chunks_exact_mut(8).for_each(|entry| entry.copy_from_slice(&table.to_be_bytes()));
    image.resize(table + CLUSTER, 0);
    // The cluster after the file's last one is counted, too.
    let counts = be64(&image, be64(&image, 48)) + image.len() / CLUSTER * 2;
    image[counts + 1] = 1;
    bench.write("x", &image);
    let before = bytes_read();
    assert_eq!(bench.inspect("x", None), Ok(Disk { format: Format::Qcow2, virtual_size: 32 << 50 }));
    let read = bytes_read() - before;
    assert!((CLUSTER as u64..2 * image.len() as u64).contains(&read), "{read} bytes of {}", image.len());

    // Tables that overlap are no tables: there could be one at every sector.
    image[l1..l1 + 8].copy_from_slice(&(table - 512).to_be_bytes());
    bench.write("x", &image);
    assert!(bench.inspect("x", None).unwrap_err().contains("cut off"));
}
