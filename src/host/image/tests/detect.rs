use super::*;

const CONVERT: &str = "(convert other formats with `qemu-img convert -O qcow2` first)";

#[test]
fn formats_by_name() {
    for format in [Format::Qcow2, Format::Raw] {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
    }
    for name in ["vmdk", "", "RAW", "raw "] {
        let message = name.parse::<Format>().unwrap_err().to_string();
        assert_eq!(message, format!("qemu: disk format {name:?}: neither qcow2 nor raw {CONVERT}"));
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    let cases = [
        ("vmdk", "", "VMDK"),
        ("vmdk", "-o subformat=monolithicFlat", "VMDK (its descriptor)"),
        ("vhdx", "", "VHDX"),
        ("vdi", "", "VDI"),
        ("vpc", "", "VHD"),
        ("vpc", "-o subformat=fixed", "VHD"),
        ("qed", "", "QED"),
        ("parallels", "", "Parallels"),
        ("qcow", "", "qcow version 1"),
    ];
    for (format, options, name) in cases {
        let bench = Bench::new();
        bench.qemu_img(&format!("create -q -f {format} {options} x 8M"));
        let want = format!("qemu: x: the format is {name}, not qcow2 or raw {CONVERT}");
        assert_eq!(bench.inspect("x", None), Err(want), "{format} {options}");
        let want = "qemu: x: not a qcow2 image (`--format raw` if it is a raw disk)";
        let want = if format == "qcow" { "qemu: x: version 1 of qcow2 is not known: 2 and 3 are" } else { want };
        assert_eq!(bench.inspect("x", Some(Format::Qcow2)), Err(want.into()), "{format} {options}");
    }
}

#[test]
fn packed_and_short_and_misnamed_files() {
    const DAMAGED: &str = "but the content is not: damaged, or another format (`--format raw` if it is a raw disk)";
    let cases: [(&str, &[u8], String); 9] = [
        ("x.raw.gz", b"\x1f\x8b\x08", "compressed with gzip, not a disk image (unpack it first)".into()),
        ("x.img.xz", b"\xfd7zXZ\0", "compressed with xz, not a disk image (unpack it first)".into()),
        ("x", b"\x28\xb5\x2f\xfd", "compressed with zstd, not a disk image (unpack it first)".into()),
        ("x", b"", "0 bytes: too short for a disk".into()),
        ("x", &[1; 511], "511 bytes: too short for a disk".into()),
        ("x.qcow2", &noise(4096), format!("named .qcow2, {DAMAGED}")),
        ("x.QCOW2", &noise(4096), format!("named .qcow2, {DAMAGED}")),
        ("x.vmdk", &noise(4096), format!("named .vmdk, {DAMAGED}")),
        ("x.qcow2", b"", format!("named .qcow2, {DAMAGED}")),
    ];
    for (name, content, want) in cases {
        let bench = Bench::new();
        bench.write(name, content);
        assert_eq!(bench.inspect(name, None), Err(format!("qemu: {name}: {want}")));
    }
}

#[test]
fn raw_is_what_is_declared_or_nothing_else() {
    for (len, virtual_size) in [(512, 512), (513, 1024), (1 << 20, 1 << 20)] {
        let bench = Bench::new();
        bench.write("x.img", &noise(len));
        let want = Ok(Disk { format: Format::Raw, virtual_size });
        assert_eq!(bench.inspect("x.img", None), want);
        bench.write("x.qcow2", &noise(len));
        assert_eq!(bench.inspect("x.qcow2", Some(Format::Raw)), want);
    }
    let bench = Bench::new();
    bench.qemu_img("create -q -f qcow2 x.qcow2 1M");
    let disk = bench.inspect("x.qcow2", Some(Format::Raw)).unwrap();
    assert_eq!(disk.format, Format::Raw, "a declaration is not second-guessed");
}
