use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::super::overlay;
use super::*;

const T: u64 = 1 << 40;

#[test]
fn qemu_finds_nothing_wrong() {
    let sizes = [512, 1 << 20, (1 << 20) + 512, 2 << 30, 10 << 30, (512 << 20) + 512, 2 * T, 7 * T + 1536, 2048 * T];
    for format in [Format::Qcow2, Format::Raw] {
        for size in sizes {
            let bench = Bench::new();
            bench.qemu_img(&format!("create -q -f {format} base 1M"));
            let backing = bench.path("base").to_str().unwrap().to_owned();
            overlay::create(&bench.path("o"), &backing, format, size).unwrap();
            bench.qemu_img("check -f qcow2 o");
            let info: Value = serde_json::from_str(&bench.qemu_img("info -f qcow2 --output=json o")).unwrap();
            assert_eq!(info["virtual-size"], size);
            assert_eq!(info["full-backing-filename"], backing.as_str());
            assert_eq!(info["backing-filename-format"], format.name());
            assert_eq!(info["format-specific"]["data"]["compat"], "1.1");
            let file = File::open(bench.path("o")).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.mode() & 0o7777, 0o600);
            assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks", metadata.blocks());
            let want = Disk { format: Format::Qcow2, virtual_size: size };
            assert_eq!(overlay::inspect(Path::new("o"), &file, &backing, format), Ok(want));
        }
    }
}

#[test]
fn a_guest_sees_the_image_and_its_own_writes() {
    for (options, format) in [("-c", Format::Qcow2), ("", Format::Raw)] {
        let bench = Bench::new();
        bench.convert(&disk(), options, "base");
        let base = if format == Format::Raw { "source.raw" } else { "base" };
        overlay::create(&bench.path("o"), bench.path(base).to_str().unwrap(), format, 3 << 20).unwrap();
        let before = std::fs::read(bench.path(base)).unwrap();
        let commands = ["write -P 9 65000 70000", "write -P 8 2097152 65536"];
        commands.iter().for_each(|command| bench.qemu_io("o", command));
        bench.qemu_img("check -f qcow2 o");
        bench.qemu_img("convert -f qcow2 -O raw o out");
        let mut want = disk();
        want.resize(3 << 20, 0);
        want[65_000..135_000].fill(9);
        want[2 << 20..(2 << 20) + 65_536].fill(8);
        assert!(std::fs::read(bench.path("out")).unwrap() == want);
        assert!(std::fs::read(bench.path(base)).unwrap() == before, "the image is never written");
    }
}

#[test]
fn bad_requests_leave_no_file() {
    let long = format!("/{}", "x".repeat(1023));
    let cases = [
        ("base", 1 << 20),
        ("nbd://host/x", 1 << 20),
        ("", 1 << 20),
        ("/a\0b", 1 << 20),
        (long.as_str(), 1 << 20),
        ("/base", 0),
        ("/base", 2048 * T + 1),
        ("/base", u64::MAX),
    ];
    let bench = Bench::new();
    for (backing, size) in cases {
        let message = overlay::create(&bench.path("o"), backing, Format::Raw, size).unwrap_err().to_string();
        assert!(message.starts_with(&format!("qemu: {}: ", bench.path("o").display())), "{message}");
        assert!(!bench.path("o").exists(), "{backing:?} {size}");
    }
    overlay::create(&bench.path("o"), &long[..1023], Format::Raw, 1).unwrap();
    bench.qemu_img("info -U o --output=json");
}

#[test]
fn nothing_is_written_over() {
    let bench = Bench::new();
    bench.write("o", b"mine");
    std::os::unix::fs::symlink("gone", bench.path("link")).unwrap();
    for name in ["o", "link"] {
        let message = overlay::create(&bench.path(name), "/base", Format::Raw, 512).unwrap_err().to_string();
        assert!(message.contains("File exists"), "{message}");
    }
    assert_eq!(std::fs::read(bench.path("o")).unwrap(), b"mine");
    assert!(!bench.path("gone").exists());
}

#[test]
fn an_overlay_over_something_else_is_refused() {
    let bench = Bench::new();
    bench.qemu_img("create -q -f qcow2 base 1M");
    bench.qemu_img("create -q -f qcow2 -b base -F qcow2 other");
    overlay::create(&bench.path("o"), "/crun-qemu/image", Format::Raw, 1 << 20).unwrap();
    let cases = [("base", Format::Raw), ("other", Format::Qcow2), ("o", Format::Qcow2)];
    for (name, format) in cases {
        let file = File::open(bench.path(name)).unwrap();
        let message = overlay::inspect(Path::new(name), &file, "/crun-qemu/image", format).unwrap_err().to_string();
        assert_eq!(message, format!("qemu: {name}: not an overlay over /crun-qemu/image ({format})"));
    }
}

#[test]
fn it_grows_in_place_and_keeps_what_is_in_it() {
    let bench = Bench::new();
    bench.qemu_img("create -q -f raw base 1M");
    let backing = bench.path("base").to_str().unwrap().to_owned();
    overlay::create(&bench.path("o"), &backing, Format::Raw, 1 << 20).unwrap();
    bench.qemu_io("o", "write -P 9 65536 65536");
    let open = || File::options().read(true).write(true).open(bench.path("o")).unwrap();
    // The last is as far as the L1 table's one cluster goes.
    for size in [1 << 20, (1 << 20) + 512, 10 << 30, 10 << 30, T, 4 * T] {
        overlay::grow(Path::new("o"), &open(), size).unwrap();
        bench.qemu_img("check -f qcow2 o");
        let want = Disk { format: Format::Qcow2, virtual_size: size };
        assert_eq!(overlay::inspect(Path::new("o"), &open(), &backing, Format::Raw), Ok(want));
        bench.qemu_io("o", "read -P 9 65536 65536");
        bench.qemu_io("o", &format!("read -P 0 {} 512", size - 512));
    }
    bench.qemu_io("o", &format!("write -P 7 {} 65536", 4 * T - 65536));
    bench.qemu_img("check -f qcow2 o");
    let grow = |size| overlay::grow(Path::new("o"), &open(), size).unwrap_err().to_string();
    let want = "qemu: --disk-size: the container's disk cannot grow from 4398046511104 to 4398046511616 bytes \
                (make a new container from the image)";
    assert_eq!(grow(4 * T + 512), want);
    let want = "qemu: --disk-size: 1024 bytes are less than the 4398046511104 that the container's disk has \
                (a disk can only grow)";
    assert_eq!(grow(1024), want);
}
