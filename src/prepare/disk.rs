//! The disk that the guest boots from: the image, and the overlay that takes the writes.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::private_dir::PrivateDir;
use crate::error::{Context, Error, Result};
use crate::handoff::paths;
use crate::handoff::supervisor_config::Judged;
use crate::host::image::state::State;
use crate::host::image::{self, Format, locks, overlay};
use crate::host::rootfs::Root;
use crate::plan::{BootDisk, ImageFacts};

/// Record of which file is the VM image.
const RECORD: &str = "record.json";
/// The overlay.
const OVERLAY: &str = "overlay.qcow2";

/// The choice of an image, made at the first start and kept: a file that is added later changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Absolute path in the container's root.
    pub image: PathBuf,
    /// Its format; what a guest writes to a raw disk must not change it.
    pub format: Format,
    /// State of the image below the overlay.
    #[serde(default)]
    base: Option<Base>,
}

/// The image as it was when a container started on it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    /// The container: an image that is made of it brings this record along.
    container: String,
    state: State,
}

/// The image that was chosen, and what was found in it.
pub struct Chosen {
    pub record: Record,
    pub file: File,
    pub disk: image::Disk,
    state: State,
    /// The image is chosen for the first time.
    new: bool,
}

/// Finds the image for the container `id`: the recorded one, else the only one. `root_is_ephemeral`: the image is in a
/// layer that belongs to the engine.
///
/// # Errors
/// It cannot be run, or is not the one on which the container's disk was made.
pub fn choose(
    id: &str,
    root: &Root,
    storage: &PrivateDir,
    declared: Option<Format>,
    root_is_ephemeral: bool,
) -> Result<Chosen> {
    let Some(text) = storage.read(RECORD)? else {
        let found = root.find_image()?;
        let disk = image::inspect(&found.path, &found.file, declared)?;
        let state = State::of(&found.path, &found.file)?;
        let record = Record { image: found.path, format: disk.format, base: None };
        return Ok(Chosen { record, file: found.file, disk, state, new: true });
    };
    let record: Record = serde_json::from_slice(&text).context(storage.join(RECORD).display())?;
    if declared.is_some_and(|format| format != record.format) {
        let why = format!("the container's disk was made on a {} image", record.format);
        return Err(Error::new("--format", why).hint("make a new container"));
    }
    let file = root.open_recorded(&record.image)?;
    let state = State::of(&record.image, &file)?;
    if !record.base.as_ref().is_none_or(|base| base.is_still(id, &state, root_is_ephemeral)) {
        // Little of the overlay's disk would be intact.
        let why = "the image has been written to since the container's disk was made on it";
        return Err(Error::new(record.image.display().to_string(), why).hint("make a new container"));
    }
    let disk = image::inspect(&record.image, &file, Some(record.format))?;
    Ok(Chosen { record, file, disk, state, new: false })
}

impl Base {
    /// Whether the image, now in `state`, is the one below the overlay of the container `id`.
    fn is_still(&self, id: &str, state: &State, root_is_ephemeral: bool) -> bool {
        match self.container == id {
            // Files that pass through an archive, as with `podman cp`, keep whole seconds.
            true if root_is_ephemeral => self.state.is_same_by_seconds(state),
            true => self.state == *state,
            // A container was committed with its overlay; a build or a registry may have given the image another time.
            false => self.state.is_same_content(state),
        }
    }
}

impl Chosen {
    /// Makes the overlay, if the plan has one, and the record for the container `id`, unless they exist. Returns the
    /// overlay's path and the files that were judged.
    ///
    /// # Errors
    /// The image has to be written to and cannot be, or another VM writes to it.
    pub fn make(
        &self,
        id: &str,
        root: &Root,
        dir: &PrivateDir,
        disk: BootDisk,
        image: ImageFacts,
    ) -> Result<(Option<PathBuf>, Vec<Judged>)> {
        let (name, mut record) = (self.record.image.display().to_string(), self.record.clone());
        let mut judged = vec![Judged::new(&name, paths::IMAGE, &self.file)?];
        let overlay = match disk {
            BootDisk::Image(_) => {
                self.take_image(root)?;
                None
            }
            BootDisk::Overlay { size, .. } => {
                refuse_if(locks::is_written(&self.file)?, &name, "a VM with --persistent writes to it")?;
                let (path, file) = ensure_overlay(dir, image, size)?;
                judged.push(Judged::new(&path.display().to_string(), paths::OVERLAY, &file)?);
                record.base = Some(Base { container: id.to_owned(), state: self.state.clone() });
                Some(path)
            }
        };
        if self.new || record != self.record {
            dir.write_durably(RECORD, 0o600, &serde_json::to_vec(&record).context(RECORD)?)?;
        }
        Ok((overlay, judged))
    }

    fn take_image(&self, root: &Root) -> Result<()> {
        let path = &self.record.image;
        root.open_writable(path).map_err(|e| Error::new(format!("--persistent: {}", path.display()), e.why()))?;
        let why = "another VM uses it, and with --persistent it has to be the only one";
        refuse_if(locks::is_used(&self.file)?, &path.display().to_string(), why)
    }
}

fn refuse_if(used: bool, image: &str, why: &str) -> Result<()> {
    if used { Err(Error::new(image, why).hint("stop that one first")) } else { Ok(()) }
}

/// The overlay, made unless it is there.
fn ensure_overlay(dir: &PrivateDir, image: ImageFacts, size: Option<u64>) -> Result<(PathBuf, File)> {
    let path = dir.join(OVERLAY);
    let open = || dir.open_file(OVERLAY, OpenOptions::new().read(true).write(size.is_some()));
    let file = match open()? {
        // An image may bring a file of this name: one that was committed does.
        Some(file) => {
            overlay::inspect(&path, &file, paths::IMAGE, image.format)?;
            size.map_or(Ok(()), |size| overlay::grow(&path, &file, size))?;
            file
        }
        None => {
            overlay::create(&path, paths::IMAGE, image.format, size.unwrap_or(image.virtual_size))?;
            open()?.ok_or_else(|| Error::new(path.display().to_string(), "gone as soon as it was made"))?
        }
    };
    dir.give(&path)?;
    Ok((path, file))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;

    /// A root with an image, and the directory of a container's writes.
    struct Bench(TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().unwrap());
            fs::create_dir(bench.0.path().join("root")).unwrap();
            bench.image(b'x', 0);
            bench
        }

        /// Puts another image in place.
        fn image(&self, content: u8, nanoseconds: u64) {
            let path = self.0.path().join("root/x.img");
            fs::write(&path, [content; 1 << 16]).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }

        /// A container's start: the overlay's inode, to which another start must come, too.
        fn start(&self, id: &str, root_is_ephemeral: bool) -> std::result::Result<u64, String> {
            self.try_start(id, root_is_ephemeral).map_err(|e| e.to_string())
        }

        fn try_start(&self, id: &str, root_is_ephemeral: bool) -> Result<u64> {
            let root = Root::open(&self.0.path().join("root"))?;
            let dir = PrivateDir::open(self.0.path().join("private"), None)?;
            let chosen = choose(id, &root, &dir, None, root_is_ephemeral)?;
            let (format, virtual_size) = (chosen.disk.format, chosen.disk.virtual_size);
            let facts = ImageFacts { format, virtual_size, root_is_ephemeral, bios_bootable: false };
            let disk = BootDisk::Overlay { image: format, size: None };
            let (overlay, _) = chosen.make(id, &root, &dir, disk, facts)?;
            dir.commit();
            Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata(overlay.unwrap()).unwrap()))
        }
    }

    const CHANGED: &str = "/x.img: the image has been written to since the container's disk was made on it \
                           (make a new container)";

    #[test]
    fn an_image_that_is_replaced_below_an_overlay_is_noticed() {
        for root_is_ephemeral in [false, true] {
            let bench = Bench::new();
            let first = bench.start("a", root_is_ephemeral).unwrap();
            assert_eq!(bench.start("a", root_is_ephemeral), Ok(first));
            for (content, nanoseconds) in [(b'y', 0), (b'x', 1_000_000_000)] {
                bench.image(content, nanoseconds);
                assert_eq!(
                    bench.start("a", root_is_ephemeral),
                    Err(CHANGED.into()),
                    "{root_is_ephemeral} {nanoseconds}"
                );
            }
            bench.image(b'x', 0);
            assert_eq!(bench.start("a", root_is_ephemeral), Ok(first));
            // `podman cp` of the old one.
            bench.image(b'x', 5);
            let want = if root_is_ephemeral { Ok(first) } else { Err(CHANGED.into()) };
            assert_eq!(bench.start("a", root_is_ephemeral), want);
        }
    }

    #[test]
    fn a_committed_container_is_another_on_the_same_image() {
        let bench = Bench::new();
        let first = bench.start("a", true).unwrap();
        // As a registry and a build may make it.
        bench.image(b'x', 7_000_000_000);
        assert_eq!(bench.start("b", true), Ok(first));
        assert_eq!(bench.start("b", true), Ok(first));
        bench.image(b'x', 9_000_000_000);
        assert_eq!(bench.start("b", true), Err(CHANGED.into()), "of that container it is the disk now");
        bench.image(b'y', 9_000_000_000);
        assert_eq!(bench.start("c", true), Err(CHANGED.into()));
    }
}
