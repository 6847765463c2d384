//! Which options may reach host paths and devices: the system's policy file decides, and the user's own.
//!
//! An image's ENTRYPOINT and a pod's author can write options, so options that could harm the host need the permission
//! of the host's owner.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::error::{Context, Error, Result};
use crate::host::idmap::IdMap;

/// The system's file.
const SYSTEM: &str = "/etc/crun-qemu/policy";
/// The user's own, in the home directory.
const OWN: &str = ".config/crun-qemu/policy";

/// A key of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    HostPaths,
    Vfio,
}

impl Key {
    const ALL: [Self; 2] = [Self::HostPaths, Self::Vfio];

    fn name(self) -> &'static str {
        match self {
            Self::HostPaths => "host-paths",
            Self::Vfio => "vfio",
        }
    }
}

/// Content of a policy file, each key at most once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct File {
    path: PathBuf,
    /// Key, line, whether it is allowed.
    said: Vec<(Key, usize, bool)>,
}

impl File {
    /// Lines `KEY = allow` or `KEY = deny`, empty ones and comments.
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut file = Self { path: path.into(), said: Vec::new() };
        for (line, text) in (1..).zip(text.lines()) {
            let bad = |why: String| Error::new(format!("{} line {line}", path.display()), why);
            let text = text.split('#').next().unwrap_or_default().trim();
            if text.is_empty() {
                continue;
            }
            let form = || bad(format!("\"{text}\" is not KEY = allow or KEY = deny"));
            let (name, value) = text.split_once('=').ok_or_else(form)?;
            let key = Key::ALL.into_iter().find(|key| key.name() == name.trim());
            let known = Key::ALL.map(Key::name).join(", ");
            let key = key.ok_or_else(|| bad(format!("\"{}\" is unknown", name.trim())).hint(known))?;
            let allowed = match value.trim() {
                "allow" => true,
                "deny" => false,
                _ => return Err(form()),
            };
            if file.says(key).is_some() {
                return Err(bad(format!("{} is given twice", key.name())));
            }
            file.said.push((key, line, allowed));
        }
        Ok(file)
    }

    /// Line and whether it is allowed.
    fn says(&self, key: Key) -> Option<(usize, bool)> {
        self.said.iter().find(|said| said.0 == key).map(|said| (said.1, said.2))
    }

    fn read(path: PathBuf) -> Result<Self> {
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self { path, said: Vec::new() }),
            Err(e) => Err(e).context(format!("policy {}", path.display())),
        }
    }
}

/// Content of both files. To be read only if an option depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The system's, then the user's own.
    files: Vec<File>,
}

impl Policy {
    /// Parses files with these paths and texts, the system's first. Pure.
    ///
    /// # Errors
    /// A line that is not understood.
    pub fn parse(files: &[(&Path, &str)]) -> Result<Self> {
        let files: Result<_> = files.iter().map(|(path, text)| File::parse(path, text)).collect();
        Ok(Self { files: files? })
    }

    /// Reads the files that are there.
    ///
    /// # Errors
    /// A file that cannot be read, or a line in it that is not understood.
    pub fn read() -> Result<Self> {
        let own = home().map(|home| home.join(OWN));
        let files: Result<_> = [Some(SYSTEM.into()), own].into_iter().flatten().map(File::read).collect();
        Ok(Self { files: files? })
    }

    /// One line for people: what is allowed, and by which files.
    pub fn summary(&self) -> String {
        let word = |key| if self.decide(key, key == Key::Vfio).is_ok() { "allow" } else { "deny" };
        let keys = Key::ALL.map(|key| format!("{} = {}", key.name(), word(key))).join(", ");
        let files = self.files.iter().filter(|file| !file.said.is_empty()).map(|file| file.path.display().to_string());
        let files: Vec<_> = files.collect();
        if files.is_empty() { format!("{keys} (by default)") } else { format!("{keys} ({})", files.join(", ")) }
    }

    /// The setting that decides: file, line, and whether it allows. A denial in the system's file is final; otherwise
    /// the user's file takes precedence.
    fn said(&self, key: Key) -> Option<(&File, usize, bool)> {
        let mut said = None;
        for file in &self.files {
            let Some((line, allowed)) = file.says(key) else { continue };
            said = Some((file, line, allowed));
            if !allowed {
                break;
            }
        }
        said
    }

    /// Whether options may name host paths that no mount grants.
    ///
    /// # Errors
    /// When no file allows it.
    pub fn host_paths(&self) -> std::result::Result<(), Denial> {
        self.decide(Key::HostPaths, false)
    }

    /// Asks for `option`, which reads a file that only an administrator can vouch for.
    ///
    /// # Errors
    /// When it is denied: what denies it, and what to write where.
    pub fn allow_host_path(&self, option: &str) -> Result<()> {
        self.decide(Key::HostPaths, false).map_err(|denial| denial.of(option, "reading files of the host"))
    }

    /// Asks for `option`, which names a PCI device: allowed by default for an argument, not for an annotation, which
    /// can be an image's or a pod's.
    ///
    /// # Errors
    /// As [`Policy::allow_host_path`].
    pub fn allow_vfio(&self, option: &str, is_annotation: bool) -> Result<()> {
        let what = if is_annotation { "handing out PCI devices by annotation" } else { "handing out PCI devices" };
        self.decide(Key::Vfio, !is_annotation).map_err(|denial| denial.of(option, what))
    }

    fn decide(&self, key: Key, default: bool) -> std::result::Result<(), Denial> {
        match self.said(key) {
            Some((_, _, true)) => Ok(()),
            Some((file, line, false)) => Err(Denial {
                by: Some(file.path.clone()),
                remedy: format!("line {line} of it would have to be: {} = allow", key.name()),
            }),
            None if default => Ok(()),
            None => {
                let paths: Vec<_> = self.files.iter().map(|file| file.path.display().to_string()).collect();
                let remedy = format!("write the line {} = allow into {}", key.name(), paths.join(" or "));
                Err(Denial { by: None, remedy })
            }
        }
    }
}

/// A policy's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The file that decides; `None` if no file does.
    pub by: Option<PathBuf>,
    /// The setting that would allow it, and its place.
    pub remedy: String,
}

impl Denial {
    fn of(self, option: &str, what: &str) -> Error {
        let why = match self.by {
            Some(file) => format!("{} denies {what}", file.display()),
            None => format!("no policy allows {what}"),
        };
        Error::new(option, why).hint(self.remedy)
    }
}

/// Home of the host user that runs the engine. Engines call runtimes without HOME, and a rootless engine calls them in
/// a user namespace, in which that user has another id.
pub fn home() -> Option<PathBuf> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let user = outside(&map, Uid::effective().as_raw()).unwrap_or(Uid::effective().as_raw());
    Some(User::from_uid(Uid::from_raw(user)).ok()??.dir)
}

/// The id of `user` outside the user namespace with this map: lines of first inside, first outside, count.
fn outside(map: &str, user: u32) -> Option<u32> {
    IdMap::parse(map).outside(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(system: &str, own: &str) -> Policy {
        Policy::parse(&[(Path::new("/s"), system), (Path::new("/u"), own)]).unwrap()
    }

    #[test]
    fn who_has_the_last_word() {
        for (system, own, host_paths) in [
            ("", "", false),
            ("host-paths = allow", "", true),
            ("", "\n# mine\nhost-paths=allow # yes\n", true),
            ("host-paths = deny", "host-paths = allow", false),
            ("host-paths = allow", "host-paths = deny", false),
            ("vfio = deny", "host-paths = allow", true),
        ] {
            assert_eq!(policy(system, own).host_paths().is_ok(), host_paths, "{system:?} {own:?}");
        }
        for (system, own, argument, annotation) in [
            ("", "", true, false),
            ("", "vfio = allow", true, true),
            ("vfio = allow", "", true, true),
            ("vfio = deny", "vfio = allow", false, false),
        ] {
            let policy = policy(system, own);
            let allowed = [false, true].map(|is_annotation| policy.allow_vfio("--x", is_annotation).is_ok());
            assert_eq!(allowed, [argument, annotation], "{system:?} {own:?}");
        }
    }

    #[test]
    fn a_denial_says_what_to_write_where() {
        for (system, own, want) in [
            ("", "", "no policy allows reading files of the host (write the line host-paths = allow into /s or /u)"),
            (
                "#\nhost-paths = deny",
                "host-paths = allow",
                "/s denies reading files of the host (line 2 of it would have to be: host-paths = allow)",
            ),
        ] {
            let e = policy(system, own).allow_host_path("--x").unwrap_err();
            assert_eq!(e.to_string(), format!("--x: {want}"));
        }
        let want = "--x: /u denies handing out PCI devices (line 1 of it would have to be: vfio = allow)";
        assert_eq!(policy("", "vfio = deny").allow_vfio("--x", false).unwrap_err().to_string(), want);
        assert_eq!(policy("", "host-paths = allow").allow_host_path("--x"), Ok(()));
    }

    #[test]
    fn each_mistake_has_its_line() {
        for (text, want) in [
            ("\nhost-paths allow", r#"line 2: "host-paths allow" is not KEY = allow or KEY = deny"#),
            ("vfio = yes", r#"line 1: "vfio = yes" is not KEY = allow or KEY = deny"#),
            ("host_paths = allow", r#"line 1: "host_paths" is unknown (host-paths, vfio)"#),
            ("vfio = deny\nvfio = deny", "line 2: vfio is given twice"),
        ] {
            assert_eq!(File::parse(Path::new("/s"), text).unwrap_err().to_string(), format!("/s {want}"));
        }
    }

    #[test]
    fn whose_home_it_is() {
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        for (map, user, want) in
            [(rootless, 0, Some(1000)), (rootless, 2, Some(100_001)), ("0 0 4294967295", 7, Some(7)), ("", 0, None)]
        {
            assert_eq!(outside(map, user), want, "{map:?} {user}");
        }
    }
}
