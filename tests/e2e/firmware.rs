//! Which firmware boots the disk, and that its variables are the container's.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::harness::{Form, Podman, Run, Vm, directory, guest, rootfs, run, text};
use crate::host_view::podman_with;

/// What the option, the annotation and the disk lead to.
struct Case {
    guest: &'static str,
    annotation: Option<&'static str>,
    options: &'static [&'static str],
    /// Said on the console.
    says: &'static str,
}

const BIOS: &str = "tiny: firmware bios";
const UEFI: &str = "tiny: firmware uefi";

#[test]
fn the_disk_the_argument_or_the_annotation_decides() {
    let cases = [
        Case { guest: "tiny", annotation: None, options: &[], says: BIOS },
        Case { guest: "tiny", annotation: Some("auto"), options: &["--firmware", "bios"], says: BIOS },
        // None of these finds anything to boot, and that shows which firmware it was.
        Case { guest: "tiny", annotation: None, options: &["--firmware", "uefi"], says: "BdsDxe: " },
        Case { guest: "tiny-uefi", annotation: Some("bios"), options: &[], says: "SeaBIOS" },
        // The argument wins.
        Case {
            guest: "tiny-uefi",
            annotation: Some("bios"),
            options: &["--firmware", "uefi"],
            says: "BdsDxe: loading",
        },
    ];
    for case in cases {
        let root = rootfs(Podman::Rootful, case.guest);
        let annotation = case.annotation.map(|value| format!("run.oci.qemu.firmware={value}"));
        let podman_options: Vec<&str> = annotation.iter().flat_map(|value| ["--annotation", value]).collect();
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let run = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &podman_options,
            what: &what,
            options: case.options,
        };
        run.detached().wait_for(case.says, 1);
    }
}

#[test]
fn an_unknown_firmware_is_refused() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let mut run =
        Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &[] };
    let line = "qemu: --firmware: \"coreboot\" is unknown (auto, bios or uefi)";
    run.options = &["--firmware", "coreboot"];
    let (status, message) = run.refused();
    assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
    run.options = &[];
    run.podman_options = &["--annotation", "run.oci.qemu.firmware=coreboot"];
    let (status, message) = run.refused();
    assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
}

/// Of the variables' 528 KiB, OVMF keeps 4 KiB for a log that it never writes: a mark in it stays for as long as the
/// file does.
const UNUSED: usize = (256 << 10) + 1024;

/// Firmware of another size than any UEFI's, for a host's first build.
const OTHER: &str = "/usr/share/seabios/bios-256k.bin";
const DESCRIPTIONS: &str = "/usr/share/qemu/firmware";

/// A host that prefers another build by now.
struct Upgraded(TempDir);

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
        std::fs::write(dir.path().join("00-first.json"), build.to_string()).unwrap();
        Self(dir)
    }

    fn start(&self, vm: &Vm) -> Output {
        podman_with(self.0.path(), DESCRIPTIONS).args(["start", &vm.name]).output().unwrap()
    }
}

#[test]
fn uefi_keeps_its_variables_over_stop_and_start() {
    let disk = guest("tiny-uefi");
    let root = rootfs(Podman::Rootful, "tiny-uefi");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    // A network namespace that podman makes itself would be seen from the mount namespace of its start alone.
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
    assert!(console.contains(UEFI), "auto took another firmware for {disk:?}:\n{console}");
    let file = |vm: &Vm| Path::new(&vm.inspect("{{.StaticDir}}")).join("crun-qemu/nvram.fd");
    assert_eq!(first.stop(), 0);
    let second = vm.detached();
    assert_ne!(std::fs::metadata(file(&first)).unwrap().ino(), std::fs::metadata(file(&second)).unwrap().ino());
    drop(second);

    let mut variables = std::fs::read(file(&first)).unwrap();
    let has = |variables: &[u8], name: &str| {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        variables.windows(name.len()).any(|window| window == name)
    };
    assert!(has(&variables, "BootOrder"), "the firmware's own variables were not kept");
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
    assert!(&variables[UNUSED..UNUSED + 4] == b"mark" && has(&variables, "BootOrder"), "made anew at the second start");
    let gone = file(&first);
    first.podman.ok(&["rm", &first.name]);
    assert!(!gone.exists());
}
