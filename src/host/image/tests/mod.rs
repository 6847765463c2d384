//! Images made by `qemu-img`, images made by hand, and images that were damaged.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::*;

mod boot;
mod detect;
mod hostile;
mod locks;
mod overlay;
mod qcow2;
mod state;

/// A directory to make images in.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Bench(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Runs `qemu-img` in the directory and returns what it says.
    fn qemu_img(&self, args: &str) -> String {
        // LUKS' key derivation is timed, and the clock of a busy machine's process may not have moved: ask again.
        for _ in 0..20 {
            let output = Command::new("qemu-img").args(args.split_whitespace()).current_dir(&self.0).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            assert!(errors.contains("Unable to get accurate CPU usage"), "qemu-img {args}: {errors}");
        }
        panic!("qemu-img {args}: no accurate CPU usage");
    }

    /// Has `qemu-io` do something with the qcow2 image `name`.
    fn qemu_io(&self, name: &str, command: &str) {
        let args = ["-f", "qcow2", "-c", command, name];
        let output = Command::new("qemu-io").args(args).current_dir(&self.0).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("failed"), "{command}: {said}");
    }

    /// Makes `name` of the raw image `disk`, with options of `qemu-img convert`.
    fn convert(&self, disk: &[u8], options: &str, name: &str) -> PathBuf {
        self.write("source.raw", disk);
        self.qemu_img(&format!("convert -f raw -O qcow2 {options} source.raw {name}"));
        self.path(name)
    }

    /// What [`inspect`] says of the file `name`, which is called just that in messages.
    fn inspect(&self, name: &str, declared: Option<Format>) -> std::result::Result<Disk, String> {
        let file = File::open(self.path(name)).unwrap();
        inspect(Path::new(name), &file, declared).map_err(|e| e.to_string())
    }

    fn bootable(&self, name: &str, disk: &Disk) -> std::result::Result<bool, String> {
        let file = File::open(self.path(name)).unwrap();
        bios_bootable(Path::new(name), &file, disk).map_err(|e| e.to_string())
    }
}

/// Bytes that do not compress, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A disk of 1 MiB with a boot record, zeros, text and noise, none of it at a cluster's bounds.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..3].copy_from_slice(b"\xeb\x63\x90");
    disk[510..512].copy_from_slice(b"\x55\xaa");
    let text: Vec<u8> = b"all work and no play ".iter().copied().cycle().take(150_000).collect();
    disk[70_000..220_000].copy_from_slice(&text);
    disk[300_001..500_001].copy_from_slice(&noise(200_000));
    disk
}
