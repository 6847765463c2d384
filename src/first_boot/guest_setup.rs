//! The guest's set-up for everything that the container was given: mounts and links on every boot. It first repairs
//! what a power cut damaged and `podman exec` needs.
//!
//! One script for `/bin/sh` does all of it. The user's data reach it as arguments.

use std::path::Path;

use crate::plan::attachments::{Attachments, SharedFile};

/// The script; each step is a word and its arguments. The script can run again, because no step is done twice. If a
/// step fails, the console shows it and the other steps still run.
const SCRIPT: &str = include_str!("setup.sh");

/// The name of [`Setup::file`] among the files that QEMU shows the guest by fw_cfg.
pub const FIRMWARE_FILE: &str = "opt/crun-qemu/setup";

/// Mount point of the virtiofs that contains all shared files.
const FILES: &str = "/run/crun-qemu/files";

/// The guest's hosts file.
const HOSTS: &str = "/etc/hosts";

/// A step for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Mount the virtiofs with this tag.
    Share { tag: String, options: String },
    /// Put the file of this name in the virtiofs of all files there.
    File { name: String, options: String },
    /// A copy of such a file, in memory.
    Secret { name: String },
    /// Mount a tmpfs with these options.
    Tmpfs { options: String, copy_up: bool },
    /// Make a link to the disk with this serial number.
    Disk { serial: String },
    /// Know this address by these names.
    Host { address: String, names: String },
}

/// The steps, each with its path in the guest, outer paths before inner ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setup {
    steps: Vec<(String, Step)>,
}

impl Setup {
    /// Steps for the attachments, and for `hosts`, the addresses and names that the container knows.
    pub fn new(attachments: &Attachments, hosts: &[(String, String)]) -> Self {
        let mut steps: Vec<(String, Step)> = Vec::new();
        let options = |read_only: bool, flags: &[&'static str]| {
            [&[if read_only { "ro" } else { "rw" }], flags].concat().join(",")
        };
        steps.extend(
            attachments
                .shares
                .iter()
                .map(|s| (s.target.clone(), Step::Share { tag: s.tag(), options: options(s.read_only, &s.flags) })),
        );
        steps.extend(attachments.files.iter().map(|f| {
            let step = match f.secret {
                true => Step::Secret { name: f.name() },
                false => Step::File { name: f.name(), options: options(f.read_only, &f.flags) },
            };
            (f.target.clone(), step)
        }));
        let tmpfs = attachments.tmpfs.iter();
        steps.extend(
            tmpfs.map(|t| (t.target.clone(), Step::Tmpfs { options: t.options.join(","), copy_up: t.copy_up })),
        );
        steps.extend(attachments.disks.iter().map(|d| (d.target.clone(), Step::Disk { serial: d.serial() })));
        // The user's own file is not modified.
        let theirs = steps.iter().any(|(path, _)| Path::new(HOSTS).starts_with(path));
        steps.extend(hosts.iter().filter(|_| !theirs).map(|(address, names)| {
            let (address, names) = (address.clone(), names.clone());
            (HOSTS.to_string(), Step::Host { address, names })
        }));
        // A path sorts before those below it.
        steps.sort_by(|a, b| a.0.cmp(&b.0));
        Self { steps }
    }

    /// The command for every boot.
    pub fn command(&self) -> Vec<String> {
        let mut command: Vec<String> = ["/bin/sh", "-c", SCRIPT, "crun-qemu"].map(String::from).into();
        command.extend(self.steps.iter().flat_map(|(path, step)| step.words(path)));
        command
    }

    /// The same as a shell script. The copy that a guest kept from its first boot gives way to the one that QEMU
    /// provides on this boot.
    pub fn file(&self) -> String {
        let words = self.steps.iter().flat_map(|(path, step)| step.words(path));
        let words = words.map(|word| format!(" '{}'", word.replace('\'', "'\\''"))).collect::<String>();
        let fresh = format!("/sys/firmware/qemu_fw_cfg/by_name/{FIRMWARE_FILE}/raw");
        format!(
            "modprobe -q qemu_fw_cfg\n[ \"$0\" = {fresh} ] || [ ! -r {fresh} ] || exec /bin/sh {fresh}\n\
             set --{words}\n{SCRIPT}"
        )
    }

    /// Lines as in fstab, for guests that take no command: what can be said so.
    pub fn fstab(&self) -> String {
        let files = self.steps.iter().any(|(_, step)| matches!(step, Step::File { .. }));
        let first = files.then(|| format!("{} {FILES} virtiofs {OPTIONS} 0 0\n", SharedFile::TAG));
        first.into_iter().chain(self.steps.iter().filter_map(|(path, step)| step.fstab(path))).collect()
    }

    /// The links as lines of tmpfiles.d.
    pub fn tmpfiles(&self) -> String {
        self.steps.iter().filter_map(|(path, step)| step.tmpfiles(path)).collect()
    }
}

/// Options of the fstab lines. File systems are waited for, but a failure does not stop the boot. They are mounted
/// before an Ignition guest's script checks them, so that neither repeats the other's work.
pub(super) const OPTIONS: &str = "nofail,x-systemd.before=local-fs.target,x-systemd.before=crun-qemu-setup.service";

impl Step {
    /// The step's words for the script; each kind has four.
    fn words(&self, path: &str) -> [String; 4] {
        let [kind, what, how] = match self {
            Self::Share { tag, options } => ["share", tag, options.as_str()],
            Self::File { name, options } => ["file", name, options],
            Self::Secret { name } => ["secret", name, "ro"],
            Self::Tmpfs { options, copy_up } => ["tmpfs", options, if *copy_up { "copy" } else { "empty" }],
            Self::Disk { serial } => ["disk", serial, "-"],
            Self::Host { address, names } => ["host", address, names],
        };
        [kind, what, how, path].map(String::from)
    }

    fn fstab(&self, path: &str) -> Option<String> {
        let path = octal(path);
        Some(match self {
            Self::Share { tag, options } => {
                format!("{} {path} virtiofs {OPTIONS},{options} 0 0\n", octal(tag))
            }
            Self::File { name, options } => {
                format!("{FILES}/{name} {path} none bind,{OPTIONS},{options} 0 0\n")
            }
            Self::Tmpfs { options, .. } => {
                let comma = if options.is_empty() { "" } else { "," };
                format!("crun-qemu {path} tmpfs {OPTIONS}{comma}{} 0 0\n", octal(options))
            }
            // These need a command or a line in a file.
            Self::Secret { .. } | Self::Disk { .. } | Self::Host { .. } => return None,
        })
    }

    fn tmpfiles(&self, path: &str) -> Option<String> {
        let Self::Disk { serial } = self else { return None };
        // tmpfiles.d quotes as C does, and a percent sign begins a specifier.
        let path: String = path.chars().map(|c| if c == '%' { "%%".into() } else { escaped(c) }).collect();
        Some(format!("L+ \"{path}\" - - - - /dev/disk/by-id/virtio-{serial}\n"))
    }
}

/// Escapes the characters that separate fields in fstab.
fn octal(field: &str) -> String {
    field
        .chars()
        .map(|c| match c {
            ' ' | '\t' | '\n' | '\\' | '#' => format!("\\{:03o}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

fn escaped(c: char) -> String {
    match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::image::Format;
    use crate::plan::attachments::{Disk, DiskSource, Share, Tmpfs};

    fn setup() -> Setup {
        let file = |number, target: &str, secret| SharedFile {
            number,
            mount: 0,
            target: target.into(),
            read_only: true,
            flags: vec!["noexec", "nosuid"],
            secret,
        };
        let attachments = Attachments {
            kept: vec![],
            engine_files: vec![],
            shares: vec![
                Share { number: 1, mount: 1, target: "/a/b c".into(), read_only: true, flags: vec!["nodev"] },
                Share { number: 0, mount: 2, target: "/a".into(), read_only: false, flags: vec![] },
            ],
            files: vec![file(3, "/etc/x#", false), file(4, "/run/secrets/s", true)],
            tmpfs: vec![Tmpfs {
                target: "/a/b c/t".into(),
                options: vec!["size=1m".into(), "ro".into()],
                copy_up: true,
            }],
            disks: vec![Disk {
                number: 0,
                source: DiskSource::File(5),
                target: "/dev/100%\"".into(),
                format: Format::Raw,
                read_only: false,
            }],
        };
        Setup::new(&attachments, &[("192.0.2.7".into(), "db db.test".into())])
    }

    #[test]
    fn outer_paths_first_and_a_word_for_each_argument() {
        let command = setup().command();
        assert_eq!(command[..2], ["/bin/sh", "-c"]);
        let steps: Vec<String> = command[4..].chunks(4).map(|step| step.join("|")).collect();
        let want = [
            "share|/a|rw|/a",
            "share|/a/b c|ro,nodev|/a/b c",
            "tmpfs|size=1m,ro|copy|/a/b c/t",
            "disk|crun-qemu-0|-|/dev/100%\"",
            "host|192.0.2.7|db db.test|/etc/hosts",
            "file|3|ro,noexec,nosuid|/etc/x#",
            "secret|4|ro|/run/secrets/s",
        ];
        assert_eq!(steps, want);
        assert_eq!(Setup::default().command()[4..], [""; 0]);
        let words = format!("{} printf '%s|' \"$@\"", setup().file().replace(SCRIPT, ""));
        let printed = std::process::Command::new("sh").args(["-c", &words]).output().unwrap().stdout;
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            command[4..].iter().map(|w| format!("{w}|")).collect::<String>()
        );
        assert!(std::process::Command::new("sh").args(["-n", "-c", SCRIPT]).status().unwrap().success());
    }

    #[test]
    fn a_hosts_file_of_the_users_is_not_written() {
        let hosts = [("192.0.2.7".to_string(), "db".to_string())];
        for (target, want) in [("/etc/hosts", 1), ("/etc", 1), ("/etc/hosts.d", 2)] {
            let share = Share { number: 0, mount: 0, target: target.into(), read_only: false, flags: vec![] };
            let attachments = Attachments { shares: vec![share], ..Attachments::default() };
            assert_eq!(Setup::new(&attachments, &hosts).steps.len(), want, "{target}");
        }
    }

    #[test]
    fn for_guests_without_a_command() {
        let want = "crun-qemu-files /run/crun-qemu/files virtiofs OPTIONS 0 0\n\
                    /a /a virtiofs OPTIONS,rw 0 0\n\
                    /a/b\\040c /a/b\\040c virtiofs OPTIONS,ro,nodev 0 0\n\
                    crun-qemu /a/b\\040c/t tmpfs OPTIONS,size=1m,ro 0 0\n\
                    /run/crun-qemu/files/3 /etc/x\\043 none bind,OPTIONS,ro,noexec,nosuid 0 0\n";
        assert_eq!(setup().fstab(), want.replace("OPTIONS", OPTIONS));
        assert_eq!(setup().tmpfiles(), "L+ \"/dev/100%%\\\"\" - - - - /dev/disk/by-id/virtio-crun-qemu-0\n");
    }
}
