use super::*;

/// The table as the man page has it.
fn man() -> String {
    let roff = |text: &str| text.replace('-', "\\-");
    TABLE.iter().fold(String::new(), |text, spec| {
        let argument = spec.argument.map(|a| format!(" \\fI{}\\fR", roff(a))).unwrap_or_default();
        let (name, meaning, default) = (roff(spec.name), roff(spec.meaning), roff(spec.default));
        let again = spec.again();
        text + &format!(".TP\n\\fB\\-\\-{name}\\fR{argument}\n{meaning}{again}\nDefault: {default}.\n")
    })
}

/// `BLESS=1 cargo test` writes the man page's part anew.
#[test]
fn the_man_page_has_every_option() {
    let (begin, end) = (".\\\" options: begin\n", ".\\\" options: end\n");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/crun-qemu.1");
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(begin).unwrap();
    let (listed, tail) = rest.split_once(end).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{head}{begin}{}{end}{tail}", man())).unwrap();
    } else {
        assert_eq!(listed, man());
    }
}

fn parse(args: &[&str], annotations: &[(&str, &str)]) -> std::result::Result<Options, String> {
    let args: Vec<_> = args.iter().map(ToString::to_string).collect();
    Options::parse(&args, annotations.iter().copied()).map_err(|e| e.to_string())
}

#[test]
fn arguments_win_over_annotations_and_what_precedes_the_empty_one_is_ignored() {
    let base = Options::default();
    for (args, annotations, want) in [
        (&[""][..], &[][..], base.clone()),
        (&["--emulated"], &[], Options { emulated: true, ..base.clone() }),
        (&["/bin/sh", "-c", "", "--emulated"], &[], Options { emulated: true, ..base.clone() }),
        (
            &["", "--disk-size", "20G"],
            &[("run.oci.qemu.disk-size", "1G")],
            Options { disk_size: Some(20 << 30), ..base.clone() },
        ),
        (&["", "--persistent"], &[], Options { persistent: true, ..base.clone() }),
        (&["", "--emulated=false"], &[("run.oci.qemu.emulated", "true")], base.clone()),
        (
            &["", "--firmware", "uefi"],
            &[("run.oci.qemu.firmware", "bios"), ("run.oci.qemu.format", "raw"), ("other", "x")],
            Options {
                firmware: FirmwareChoice::Uefi,
                format: Some(Format::Raw),
                annotations: ["format"].into(),
                ..base.clone()
            },
        ),
    ] {
        assert_eq!(parse(args, annotations), Ok(want), "{args:?} {annotations:?}");
    }
}

#[test]
fn each_mistake_has_its_line() {
    for (args, annotations, want) in [
        (
            &["/sbin/init"][..],
            &[][..],
            r#"command "/sbin/init": a VM image runs none (put "" after the image, and options after that)"#,
        ),
        (
            &["-v", "/srv:/srv", "", "--emulated"],
            &[],
            r#"argument "-v": it is before the "" and has no effect there (an engine's options go before the image, a VM's after the "")"#,
        ),
        (&["", "--bogus"], &[], "--bogus: unknown option (crun-qemu options lists all)"),
        (&["", "x"], &[], r#"argument "x": not an option (crun-qemu options lists all)"#),
        (&["", "--format"], &[], "--format: its value is missing (--format qcow2|raw)"),
        (&["", "--emulated=1"], &[], r#"--emulated: "1" is neither true nor false"#),
        (&["", "--emulated", "--emulated"], &[], "--emulated: given twice"),
        (
            &[""],
            &[("run.oci.qemu.emulated.b", "true")],
            "annotation run.oci.qemu.emulated.b: unknown (crun-qemu options lists all)",
        ),
        (&["", "--firmware", "efi"], &[], r#"--firmware: "efi" is unknown (auto, bios or uefi)"#),
        (&["", "--timeout", "0"], &[], r#"--timeout: "0" is not a number of seconds from 1 to 86400"#),
        (&["", "--timeout=86401"], &[], r#"--timeout: "86401" is not a number of seconds from 1 to 86400"#),
        (&["", "--timeout", "5m"], &[], r#"--timeout: "5m" is not a number of seconds from 1 to 86400"#),
        (&["", "--disk-size", "0"], &[], r#"--disk-size: "0" is not a size (a number and K, M, G or T, such as 20G)"#),
        (
            &["", "--disk-size", "2G", "--persistent"],
            &[],
            "--disk-size: given beside --persistent (resize the image with qemu-img)",
        ),
        (
            &["", "--password-file", "/f"],
            &[("run.oci.qemu.password", "x")],
            "--password-file: given beside --password (one of the two)",
        ),
        (&[""], &[("run.oci.qemu.x", "")], "annotation run.oci.qemu.x: unknown (crun-qemu options lists all)"),
    ] {
        assert_eq!(parse(args, annotations), Err(want.to_string()), "{args:?}");
    }
}

#[test]
fn what_may_be_given_more_than_once_adds_up_in_order() {
    let annotations =
        [("run.oci.qemu.vfio-pci.b", "/2"), ("run.oci.qemu.vfio-pci", "/0"), ("run.oci.qemu.vfio-pci.a", "/1")];
    for (args, want) in [
        (&[""][..], &["/0", "/1", "/2"][..]),
        // The argument wins here too.
        (&["", "--vfio-pci=/b", "--vfio-pci", "/a"], &["/b", "/a"]),
    ] {
        let got = parse(args, &annotations).unwrap().vfio_pci;
        assert_eq!(got, want.iter().map(std::path::PathBuf::from).collect::<Vec<_>>(), "{args:?}");
    }
}
