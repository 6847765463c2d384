//! The seed: a small disk labelled `cidata` from which NoCloud reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

use crate::error::{Context, Error, Result};

/// Name and content of a file on the seed disk.
pub type SeedFile = (String, Vec<u8>);

/// Label in lower case, as the data source is documented; both blkid and a look at the boot sector find it.
const LABEL: [u8; 11] = *b"cidata     ";
/// The smallest disk: FAT12 with room for an ordinary user-data.
const SMALLEST: u64 = 1 << 20;
/// Largest cluster size on disks of this size, bytes; file sizes are rounded up to clusters.
const CLUSTER: u64 = 32 << 10;
/// The most that a seed may hold: no first boot needs more, and the disk is written on every create.
const LARGEST: u64 = 64 << 20;

/// Makes the disk image `path`, which must not exist yet, readable by its owner alone: user-data holds secrets.
///
/// # Errors
/// When `path` exists or cannot be written, or the files are more than 64 MiB.
pub fn write(path: &Path, files: &[SeedFile]) -> Result<()> {
    let size = size(files).ok_or_else(|| Error::new("cloud-init", "more than 64 MiB of data for the first boot"))?;
    let disk = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let disk = disk.context(path.display())?;
    fill(&disk, size, files).context(path.display())
}

/// Bytes of a disk with room for `files`.
fn size(files: &[SeedFile]) -> Option<u64> {
    let content: u64 = files.iter().map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(CLUSTER)).sum();
    (content <= LARGEST).then(|| (content + content / 16 + SMALLEST).next_multiple_of(SMALLEST))
}

fn fill(disk: &File, size: u64, files: &[SeedFile]) -> io::Result<()> {
    disk.set_len(size)?;
    // The serial number is fixed: the same files give the same disk.
    fatfs::format_volume(disk, FormatVolumeOptions::new().volume_label(LABEL).volume_id(0x6372_716d))?;
    let volume = FileSystem::new(disk, FsOptions::new())?;
    for (name, bytes) in files {
        volume.root_dir().create_file(name)?.write_all(bytes)?;
    }
    volume.unmount()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn holds_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        let files: Vec<SeedFile> =
            [("meta-data", 0), ("user-data", 1), ("vendor-data", 3 << 20), ("network-config", 4097)]
                .map(|(name, n)| (name.to_owned(), (0..n).map(|i| (i % 251) as u8).collect()))
                .into();
        write(&path, &files).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let mut disk = File::open(&path).unwrap();
        let volume = FileSystem::new(&mut disk, FsOptions::new()).unwrap();
        let mut found: Vec<SeedFile> = Vec::new();
        for entry in volume.root_dir().iter() {
            let entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes).unwrap();
            found.push((entry.file_name(), bytes));
        }
        assert_eq!(found, files);
        let boot = std::fs::read(&path).unwrap();
        assert_eq!(&boot[43..54], b"cidata     ", "where a look at the boot sector finds the label");
        assert!(write(&path, &files).is_err(), "never written over");
    }

    #[test]
    fn refuses_what_is_too_large() {
        assert_eq!(size(&[("user-data".into(), vec![0; (64 << 20) + 1])]), None);
        assert_eq!(size(&[]), Some(SMALLEST));
    }
}
