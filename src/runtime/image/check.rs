//! `crun-qemu image check`: whether a VM would start on a file.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crun_qemu::error::{Context, Error, OneLine, Result};
use crun_qemu::host::image::{self, Disk, Format, locks};
use crun_qemu::host::rootfs;
use serde::Serialize;

use super::syntax::Syntax;

/// The command line.
pub const SYNTAX: Syntax = Syntax {
    name: "check",
    meaning: "Says whether a VM would start on FILE: its format, its virtual size and the firmware, or why not.",
    flag: "--json",
    format: true,
    operands: &["FILE"],
};

/// A file on which a VM would start.
pub struct Judged {
    /// Open for reading.
    pub file: File,
    /// Properties of the image.
    pub disk: Disk,
    bios_bootable: bool,
}

/// The output for programs.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    disk: Disk,
    firmware: &'static str,
}

/// Judges the file that the words name and prints its properties.
///
/// # Errors
/// No VM would start from it.
pub fn run(words: &[OsString]) -> Result<()> {
    let Some(words) = SYNTAX.parse(words)? else { return Ok(()) };
    let name = Path::new(&words.operands[0]);
    let judged = judge(name, words.format)?;
    let report = judged.report();
    match words.flag {
        true => println!("{}", serde_json::to_string(&report).context("image check")?),
        false => println!("{}", report.line(name)),
    }
    Ok(())
}

/// Judges the file at `name` as the start of a VM does with the image of a container's root; `declared` is `--format`.
///
/// # Errors
/// The reason for which the VM would not start.
pub fn judge(name: &Path, declared: Option<Format>) -> Result<Judged> {
    let file = rootfs::open_on_host(name)?;
    let disk = image::inspect(name, &file, declared)?;
    let bios_bootable = image::bios_bootable(name, &file, &disk)?;
    if locks::is_written(&file)? {
        let why = "a VM with --persistent writes to it";
        return Err(Error::new(name.display().to_string(), why).hint("stop that one first"));
    }
    Ok(Judged { file, disk, bios_bootable })
}

impl Judged {
    fn report(&self) -> Report {
        Report { disk: self.disk, firmware: if self.bios_bootable { "bios" } else { "uefi" } }
    }
}

impl Report {
    fn line(&self, name: &Path) -> String {
        let Disk { format, virtual_size } = self.disk;
        let name = name.display().to_string();
        format!("{}: {format}, virtual size {virtual_size} bytes, firmware {}", OneLine(&name), self.firmware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_or_an_object() {
        let report = Report { disk: Disk { format: Format::Qcow2, virtual_size: 1 << 30 }, firmware: "bios" };
        let want = r"/a\nb: qcow2, virtual size 1073741824 bytes, firmware bios";
        assert_eq!(report.line(Path::new("/a\nb")), want);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"format":"qcow2","virtual_size":1073741824,"firmware":"bios"}"#);
    }

    #[test]
    fn a_boot_sector_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut sector = [0; 512];
        for (code, want) in [(0, "uefi"), (0xfa, "bios")] {
            sector[0] = code;
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            std::fs::write(&path, sector).unwrap();
            let judged = judge(&path, None).unwrap();
            assert_eq!((judged.disk.virtual_size, judged.report().firmware), (512, want));
        }
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("empty"), "").unwrap();
        std::fs::write(at("x.vmdk"), [b'x'; 512]).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, why) in [
            ("", "a directory, not a VM image"),
            ("nothing", "No such file or directory"),
            ("dangling", "No such file or directory"),
            ("fifo", "a fifo, not a VM image"),
            ("empty", "an empty file, not a VM image"),
            (
                "x.vmdk",
                "named .vmdk, but the content is not: damaged, or another format (`--format raw` if it is a raw disk)",
            ),
        ] {
            let error = judge(&at(name), None).map(drop).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {why}", at(name).display()));
        }
        assert!(judge(&at("x.vmdk"), Some(Format::Raw)).is_ok());
    }
}
