use super::*;

/// Every kind of qcow2 that is taken, as options of `qemu-img convert`.
pub(super) const KINDS: [&str; 21] = [
    "",
    "-o compat=0.10",
    "-o compat=1.1",
    "-o cluster_size=512",
    "-o cluster_size=4k",
    "-o cluster_size=2M",
    "-o compat=0.10,cluster_size=512",
    "-o refcount_bits=1",
    "-o refcount_bits=4,cluster_size=4k",
    "-o refcount_bits=64",
    "-o lazy_refcounts=on",
    "-o extended_l2=on",
    "-o extended_l2=on,cluster_size=16k",
    "-o preallocation=metadata",
    "-o preallocation=falloc",
    "-o preallocation=full",
    "-c",
    "-c -o compat=0.10,cluster_size=2M",
    "-c -o compression_type=zstd",
    "-c -o compression_type=zstd,cluster_size=2M",
    "-c -o extended_l2=on,compression_type=zstd",
];

/// The whole disk, read through our own mapping.
fn content(path: &Path, size: usize) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let source = Source::open(path, &file).unwrap();
    let map = super::super::qcow2::Map::open(&source).unwrap();
    let mut bytes = vec![0xff; size];
    map.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_kind_reads_as_what_went_in() {
    let disk = disk();
    for options in KINDS {
        let bench = Bench::new();
        let path = bench.convert(&disk, options, "x.qcow2");
        let want = Disk { format: Format::Qcow2, virtual_size: 1 << 20 };
        for declared in [None, Some(Format::Qcow2)] {
            assert_eq!(bench.inspect("x.qcow2", declared), Ok(want), "{options}");
        }
        assert!(content(&path, disk.len()) == disk, "{options}");
        assert_eq!(bench.bootable("x.qcow2", &want), Ok(true), "{options}");
    }
}

#[test]
fn explicit_zeros_and_snapshots_and_resizes() {
    let bench = Bench::new();
    let mut disk = disk();
    bench.convert(&disk, "-o extended_l2=on", "x");
    let io = |commands: &[&str]| {
        let mut args = vec!["-f", "qcow2", "x"];
        commands.iter().for_each(|command| args.extend(["-c", command]));
        let output = Command::new("qemu-io").args(args).current_dir(&bench.0).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    io(&["write -z 80k 64k", "write -P 7 100k 2k", "discard 400k 64k"]);
    disk[80 << 10..144 << 10].fill(0);
    disk[100 << 10..102 << 10].fill(7);
    let got = content(&bench.path("x"), disk.len());
    assert!(got[..400 << 10] == disk[..400 << 10]);
    assert!(got[464 << 10..] == disk[464 << 10..]);
    bench.qemu_img("snapshot -c s x");
    bench.qemu_img("resize x 3G");
    let want = Disk { format: Format::Qcow2, virtual_size: 3 << 30 };
    assert_eq!(bench.inspect("x", None), Ok(want));
    assert_eq!(bench.bootable("x", &want), Ok(true));
    bench.qemu_img("snapshot -d s x");
    bench.qemu_img("resize --shrink x 1M");
    assert_eq!(bench.inspect("x", None), Ok(Disk { virtual_size: 1 << 20, ..want }));
}

#[test]
fn sizes() {
    let bench = Bench::new();
    for (size, want) in [("512", 512), ("1000", 1024), ("10G", 10 << 30), ("7T", 7 << 40)] {
        bench.qemu_img(&format!("create -q -f qcow2 x {size}"));
        let disk = Disk { format: Format::Qcow2, virtual_size: want };
        assert_eq!(bench.inspect("x", None), Ok(disk), "{size}");
        assert_eq!(bench.bootable("x", &disk), Ok(false), "{size}");
    }
}

#[test]
fn images_that_need_more_than_themselves_are_refused() {
    const FLATTEN: &str = "(make one file of it with `qemu-img convert -O qcow2` first)";
    const DECRYPT: &str = "(decrypt it with `qemu-img convert -O qcow2` first)";
    let secret = "--object secret,id=s,data=abc";
    let aes = "-o encrypt.format=aes,encrypt.key-secret=s";
    let luks = "-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let cases = [
        ("create -q -f qcow2 -b base -F qcow2 x".into(), format!("has a backing file, \"base\" {FLATTEN}")),
        (
            "create -q -f qcow2 -o compat=0.10 -b base -F qcow2 x".into(),
            format!("has a backing file, \"base\" {FLATTEN}"),
        ),
        ("create -q -f qcow2 -o data_file=data x 1M".into(), format!("keeps its data in another file {FLATTEN}")),
        (
            "create -q -f qcow2 -o data_file=data,data_file_raw=on x 1M".into(),
            format!("keeps its data in another file {FLATTEN}"),
        ),
        (format!("create -q {secret} -f qcow2 {aes} x 1M"), format!("is encrypted {DECRYPT}")),
        (format!("create -q {secret} -f qcow2 {luks} x 1M"), format!("is encrypted {DECRYPT}")),
    ];
    for (args, want) in cases {
        let bench = Bench::new();
        bench.qemu_img("create -q -f qcow2 base 1M");
        bench.qemu_img(&args);
        for declared in [None, Some(Format::Qcow2)] {
            assert_eq!(bench.inspect("x", declared), Err(format!("x: the qcow2 image {want}")), "{args}");
        }
        let disk = Disk { format: Format::Qcow2, virtual_size: 1 << 20 };
        assert!(bench.bootable("x", &disk).is_err(), "{args}");
    }
}

/// A QEMU that was killed has counted a cluster at the file's end and never written it.
#[test]
fn a_cluster_that_was_counted_and_not_written_is_no_loss() {
    for options in ["", "-c", "-o extended_l2=on", "-o cluster_size=4k"] {
        let bench = Bench::new();
        let path = bench.convert(&disk(), options, "x");
        let mut image = std::fs::read(&path).unwrap();
        let be64 = |image: &[u8], at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
        let cluster = 1 << image[23];
        image.resize(image.len().next_multiple_of(cluster), 0);
        let (whole, count) = (image.len(), be64(&image, be64(&image, 48)) + image.len() / cluster * 2);
        image[count + 1] = 1;
        bench.write("x", &image);
        let ok = Disk { format: Format::Qcow2, virtual_size: 1 << 20 };
        assert_eq!(bench.inspect("x", None), Ok(ok), "{options}");
        // What is missing besides is missed: the last clusters but two, as some kinds have tables of their own at the
        // end.
        bench.write("x", &image[..whole - 3 * cluster]);
        assert!(bench.inspect("x", None).unwrap_err().contains("cut off"), "{options}");
    }
}
