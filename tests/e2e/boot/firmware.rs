//! The choice of firmware, and UEFI variables, which belong to the container.

use std::os::unix::fs::MetadataExt;
use std::process::Output;

use crate::harness::{Dir, Form, Podman, Run, Vm, directory, guest, podman_with, rootfs, run, text};

struct Case {
    guest: &'static str,
    annotation: Option<&'static str>,
    options: &'static [&'static str],
    /// Output of the firmware that must be chosen.
    prints: &'static str,
}

const BIOS: &str = "tiny: firmware bios";
const UEFI: &str = "tiny: firmware uefi";

#[test]
fn argument_precedes_annotation_precedes_disk() {
    let cases = [
        Case { guest: "tiny", annotation: None, options: &[], prints: BIOS },
        Case { guest: "tiny", annotation: Some("auto"), options: &["--firmware", "bios"], prints: BIOS },
        // These firmwares find nothing to boot, but their own output identifies them.
        Case { guest: "tiny", annotation: None, options: &["--firmware", "uefi"], prints: "BdsDxe: " },
        Case { guest: "tiny-uefi", annotation: Some("bios"), options: &[], prints: "SeaBIOS" },
        Case {
            guest: "tiny-uefi",
            annotation: Some("bios"),
            options: &["--firmware", "uefi"],
            prints: "BdsDxe: loading",
        },
    ];
    for case in cases {
        let root = rootfs(Podman::Rootful, case.guest);
        let annotation = case.annotation.map(|value| format!("run.oci.qemu.firmware={value}"));
        let podman_options: Vec<&str> = annotation.iter().flat_map(|value| ["--annotation", value]).collect();
        let what = root.as_root();
        let run = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &podman_options,
            what: &what,
            options: case.options,
        };
        run.detached().wait_for(case.prints, 1);
    }
}

#[test]
fn unknown_firmware_is_refused() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let mut run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &[] };
    let line = "qemu: --firmware: \"coreboot\" is unknown (auto, bios or uefi)";
    run.options = &["--firmware", "coreboot"];
    run.fails_with(line);
    run.options = &[];
    run.podman_options = &["--annotation", "run.oci.qemu.firmware=coreboot"];
    run.fails_with(line);
}

/// Offset in OVMF's variables (528 KiB) of a log of 4 KiB that OVMF never writes: a mark there shows that the file is
/// the same.
const UNUSED: usize = (256 << 10) + 1024;

/// A file whose size differs from all UEFI builds.
const OTHER: &str = "/usr/share/seabios/bios-256k.bin";
const DESCRIPTIONS: &str = "/usr/share/qemu/firmware";

/// A host that now prefers another UEFI build.
struct Upgraded(Dir);

impl Upgraded {
    fn new() -> Self {
        let dir = directory();
        run("cp", &["-r", &format!("{DESCRIPTIONS}/."), dir.path().to_str().unwrap()]);
        let file = serde_json::json!({"filename": OTHER, "format": "raw"});
        let build = serde_json::json!({
            "interface-types": ["uefi"], "features": [],
            "mapping": {"device": "flash", "executable": file, "nvram-template": file},
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        });
        std::fs::write(dir.join("00-first.json"), build.to_string()).unwrap();
        Self(dir)
    }

    fn start(&self, vm: &Vm) -> Output {
        podman_with(self.0.path(), DESCRIPTIONS).args(["start", &vm.name]).output().unwrap()
    }
}

#[test]
fn uefi_variables_survive_a_restart_and_an_upgrade() {
    let disk = guest("tiny-uefi");
    let root = rootfs(Podman::Rootful, "tiny-uefi");
    let what = root.as_root();
    // podman would mount a network namespace in the mount namespace of one start, where later commands do not see it.
    let podman_options = ["--network", "none"];
    let vm = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &podman_options,
        what: &what,
        options: &[],
    };
    let first = vm.detached();
    let console = first.wait_for("TINY READY", 1);
    assert!(console.contains(UEFI), "auto chose another firmware for {disk:?}:\n{console}");
    let file = |vm: &Vm| vm.private_dir().join("nvram.fd");
    assert_eq!(first.stop(), 0);
    let second = vm.detached();
    assert_ne!(std::fs::metadata(file(&first)).unwrap().ino(), std::fs::metadata(file(&second)).unwrap().ino());
    drop(second);

    let mut variables = std::fs::read(file(&first)).unwrap();
    let has = |variables: &[u8], name: &str| {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        variables.windows(name.len()).any(|window| window == name)
    };
    assert!(has(&variables, "BootOrder"), "the firmware's variables were not kept");
    variables[UNUSED..UNUSED + 4].copy_from_slice(b"mark");
    std::fs::write(file(&first), &variables).unwrap();

    let upgraded = Upgraded::new();
    let started = upgraded.start(&first);
    assert!(started.status.success(), "{}", text(&started.stderr));
    first.wait_for("TINY READY", 2);
    assert_eq!(first.stop(), 0);
    let record = file(&first).with_extension("json");
    let recorded = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, recorded.replace("/OVMF_CODE", "/GONE_CODE").replace("/edk2-", "/gone-")).unwrap();
    let refused = upgraded.start(&first);
    let refused = (refused.status.success(), text(&refused.stderr));
    let line = format!("which this host has no more; {OTHER} is of another size (remove {} to", file(&first).display());
    assert!(
        !refused.0 && refused.1.contains("qemu: UEFI variables: made for /") && refused.1.contains(&line),
        "{refused:?}"
    );
    let variables = std::fs::read(file(&first)).unwrap();
    assert!(&variables[UNUSED..UNUSED + 4] == b"mark" && has(&variables, "BootOrder"), "recreated at the second start");
    let gone = file(&first);
    first.podman.ok(&["rm", &first.name]);
    assert!(!gone.exists());
}
