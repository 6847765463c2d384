//! UEFI variables: the container's own, and good with the build of the firmware for which they were made.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::private_dir::PrivateDir;
use crate::error::{Context, Error, Result};
use crate::host::Uefi;
use crate::plan::Firmware;

/// The variables.
const NVRAM: &str = "nvram.fd";
/// Record of the firmware build.
const RECORD: &str = "nvram.json";

/// The firmware build that the variables were made for. Compatible builds have the same sizes: these are the offsets of
/// the flash memory's parts, and an update of a build keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Build {
    /// Path of the code.
    code: String,
    /// Size of the code, bytes.
    code_size: u64,
    /// Path of the template.
    vars: String,
    /// Size of the template and so of the variables, bytes.
    vars_size: u64,
}

impl Build {
    fn of(uefi: &Uefi) -> Result<Self> {
        let size = |path: &String| fs::metadata(path).map(|m| m.len()).context(path);
        let (code_size, vars_size) = (size(&uefi.code)?, size(&uefi.vars)?);
        Ok(Self { code: uefi.code.clone(), code_size, vars: uefi.vars.clone(), vars_size })
    }

    fn sizes(&self) -> (u64, u64) {
        (self.code_size, self.vars_size)
    }

    /// Whether the firmware's code is still installed.
    fn is_there(&self) -> bool {
        fs::metadata(&self.code).is_ok_and(|m| m.is_file() && m.len() == self.code_size)
    }
}

/// Makes the variables unless the container has them, and sets `firmware`, the host's current choice, to the build that
/// they were made for.
///
/// # Errors
/// The host has no build any more with which they are good, or they are damaged.
pub fn ensure(dir: &PrivateDir, firmware: &mut Firmware) -> Result<Option<PathBuf>> {
    let Firmware::Uefi(uefi) = firmware else { return Ok(None) };
    let (path, now) = (dir.join(NVRAM), Build::of(uefi)?);
    let Ok(metadata) = fs::symlink_metadata(&path) else {
        let template = fs::read(&uefi.vars).context(&uefi.vars)?;
        record(dir, &Build { vars_size: template.len() as u64, ..now })?;
        dir.write_durably(NVRAM, 0o600, &template)?;
        return Ok(Some(path));
    };
    let text = dir.read(RECORD)?;
    let recorded = text.map(|text| serde_json::from_slice(&text).context(dir.join(RECORD).display())).transpose()?;
    let build = still_good(recorded.unwrap_or(now.clone()), now, metadata.len())
        .map_err(|why| Error::new("UEFI variables", why).hint(format!("remove {} to start afresh", path.display())))?;
    record(dir, &build)?;
    *uefi = Uefi { code: build.code, vars: build.vars };
    Ok(Some(path))
}

fn record(dir: &PrivateDir, build: &Build) -> Result<()> {
    dir.write_durably(RECORD, 0o600, &serde_json::to_vec(build).context(RECORD)?).map(drop)
}

/// The build to go on with: the one of the record, else what the host has `now` if that is like it; `size` is the
/// variables'.
fn still_good(recorded: Build, now: Build, size: u64) -> std::result::Result<Build, String> {
    if size != recorded.vars_size {
        return Err(format!("{size} bytes, and {} takes {}", recorded.code, recorded.vars_size));
    }
    if recorded.is_there() {
        Ok(recorded)
    } else if now.sizes() == recorded.sizes() {
        Ok(now)
    } else {
        Err(format!("made for {}, which this host has no more; {} is of another size", recorded.code, now.code))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A host's firmware and a container's directory.
    struct Bench(TempDir);

    impl Bench {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Installs a build with parts of these sizes.
        fn install(&self, name: &str, code: usize, vars: usize) -> Uefi {
            let file = |part: &str, size| {
                let path = self.0.path().join(format!("{name}-{part}.fd"));
                fs::write(&path, vec![b'x'; size]).unwrap();
                path.to_str().unwrap().to_string()
            };
            Uefi { code: file("code", code), vars: file("vars", vars) }
        }

        /// Starts on a host whose first build is `first`, and returns the build that runs.
        fn start(&self, first: &Uefi) -> std::result::Result<Uefi, String> {
            let dir = PrivateDir::open(self.0.path().join("private"), None).unwrap();
            let mut firmware = Firmware::Uefi(first.clone());
            let kept = ensure(&dir, &mut firmware).map_err(|e| e.to_string());
            dir.commit();
            assert_eq!(kept?, Some(self.nvram()));
            let Firmware::Uefi(uefi) = firmware else { panic!() };
            assert_eq!(fs::metadata(self.nvram()).unwrap().len(), fs::metadata(&uefi.vars).unwrap().len());
            Ok(uefi)
        }

        fn nvram(&self) -> PathBuf {
            self.0.path().join("private/nvram.fd")
        }

        fn refusal(&self, why: &str) -> std::result::Result<Uefi, String> {
            Err(format!("UEFI variables: {why} (remove {} to start afresh)", self.nvram().display()))
        }
    }

    #[test]
    fn the_build_of_the_first_start_stays() {
        let bench = Bench::new();
        let old = bench.install("2m", 30, 2);
        assert_eq!(bench.start(&old), Ok(old.clone()));
        fs::write(bench.nvram(), b"12").unwrap();
        let new = bench.install("4m", 60, 4);
        assert_eq!(bench.start(&new), Ok(old.clone()), "the host prefers another by now");
        // An update of the same build; another place for it.
        fs::write(&old.code, vec![b'y'; 30]).unwrap();
        assert_eq!(bench.start(&new), Ok(old.clone()));
        let moved = bench.install("moved", 30, 2);
        fs::remove_file(&old.code).unwrap();
        assert_eq!(bench.start(&moved), Ok(moved.clone()));
        assert_eq!(bench.start(&new), Ok(moved.clone()));
        assert_eq!(fs::read(bench.nvram()).unwrap(), b"12");

        fs::remove_file(&moved.code).unwrap();
        let why = format!("made for {}, which this host has no more; {} is of another size", moved.code, new.code);
        assert_eq!(bench.start(&new), bench.refusal(&why));
        bench.install("moved", 60, 4);
        assert_eq!(bench.start(&new), bench.refusal(&why), "another build of the same name");
        fs::remove_file(bench.nvram()).unwrap();
        assert_eq!(bench.start(&new), Ok(new));
    }

    /// Without a record, or cut short.
    #[test]
    fn variables_of_another_size_than_their_code_wants() {
        let bench = Bench::new();
        let (old, new) = (bench.install("2m", 30, 2), bench.install("4m", 60, 4));
        let forget = || fs::remove_file(bench.0.path().join("private/nvram.json")).unwrap();
        assert_eq!(bench.start(&old), Ok(old.clone()));
        forget();
        assert_eq!(bench.start(&new), bench.refusal(&format!("2 bytes, and {} takes 4", new.code)));
        assert_eq!(bench.start(&old), Ok(old.clone()));
        fs::write(bench.nvram(), b"").unwrap();
        assert_eq!(bench.start(&old), bench.refusal(&format!("0 bytes, and {} takes 2", old.code)));
    }

    #[test]
    fn a_bios_has_none() {
        let bench = Bench::new();
        let dir = PrivateDir::open(bench.0.path().join("private"), None).unwrap();
        assert_eq!(ensure(&dir, &mut Firmware::Bios), Ok(None));
    }
}
