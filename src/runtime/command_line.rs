//! crun's command line as far as we have to understand it: which command, which bundle, which container. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// crun's global options that take a value.
const GLOBAL_WITH_VALUE: &[&str] =
    &["--cgroup-manager", "--log", "--log-format", "--log-level", "--root", "--rootless"];
/// Options with a value of the commands that we look into: create, run, exec and update.
const COMMAND_WITH_VALUE: &[&str] = &[
    "--apparmor",
    "--blkio-weight",
    "--bundle",
    "--cap",
    "--cgroup",
    "--config",
    "--console-socket",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "--cpu-share",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--cwd",
    "--env",
    "--kernel-memory",
    "--kernel-memory-tcp",
    "--memory",
    "--memory-reservation",
    "--memory-swap",
    "--pid-file",
    "--pids-limit",
    "--preserve-fds",
    "--process",
    "--process-label",
    "--resources",
    "--user",
    "-b",
    "-c",
    "-e",
    "-f",
    "-p",
    "-r",
    "-u",
];

/// A command line, split. Indices count the words after the program's name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `--log`: where errors go, without the prefix `file:`.
    pub log: Option<PathBuf>,
    /// `--log-format json`.
    pub json_log: bool,
    /// `--root`: where crun keeps its containers' states.
    pub root: Option<PathBuf>,
    /// Index of the command.
    pub command: Option<usize>,
    /// `--bundle` of the command.
    pub bundle: Option<PathBuf>,
    /// `--config` of the command.
    pub config: Option<PathBuf>,
    /// `--process` of the command and the index of the word that ends it.
    pub process: Option<(PathBuf, usize)>,
    /// `--resources` of the command and the index of the word that ends it.
    pub resources: Option<(PathBuf, usize)>,
    /// Whether the command sets a memory limit by an option.
    pub memory: bool,
    /// Index of the container's id.
    pub id: Option<usize>,
}

impl CommandLine {
    /// Splits the words after the program's name.
    pub fn parse(words: &[OsString]) -> Self {
        let mut line = Self::default();
        let mut index = 0;
        while let Some(word) = words.get(index) {
            let with_value = if line.command.is_none() { GLOBAL_WITH_VALUE } else { COMMAND_WITH_VALUE };
            let text = word.to_string_lossy();
            if !text.starts_with('-') || text == "-" {
                if line.command.is_some() {
                    line.id = Some(index);
                    break;
                }
                line.command = Some(index);
            } else if text == "--" {
                line.id = words.get(index + 1).map(|_| index + 1);
                break;
            } else if let Some((name, value)) = inline_value(word) {
                line.option(&name, value, index);
            } else if with_value.contains(&&*text)
                && let Some(value) = words.get(index + 1)
            {
                index += 1;
                line.option(&text, value.clone(), index);
            }
            index += 1;
        }
        line
    }

    fn option(&mut self, name: &str, value: OsString, end: usize) {
        match (self.command.is_some(), name) {
            (false, "--log") => {
                self.log = Some(
                    value
                        .to_str()
                        .and_then(|v| v.strip_prefix("file:"))
                        .map_or_else(|| value.clone().into(), PathBuf::from),
                )
            }
            (false, "--log-format") => self.json_log = value == "json",
            (false, "--root") => self.root = Some(value.into()),
            (true, "--bundle" | "-b") => self.bundle = Some(value.into()),
            (true, "--config" | "-f") => self.config = Some(value.into()),
            (true, "--process" | "-p") => self.process = Some((value.into(), end)),
            (true, "--resources" | "-r") => self.resources = Some((value.into(), end)),
            (true, "--memory" | "--memory-reservation" | "--memory-swap") => self.memory = true,
            _ => {}
        }
    }
}

/// `--name=value`.
fn inline_value(word: &OsString) -> Option<(String, OsString)> {
    let bytes = word.as_bytes();
    let equals = bytes.iter().position(|b| *b == b'=').filter(|_| bytes.starts_with(b"--"))?;
    let value = std::ffi::OsStr::from_bytes(&bytes[equals + 1..]);
    Some((String::from_utf8_lossy(&bytes[..equals]).into_owned(), value.to_os_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        CommandLine::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn as_engines_call_it() {
        let podman = "--log-format=json --log=/c/oci-log --systemd-cgroup create --bundle /b --pid-file /p id";
        let want = CommandLine {
            log: Some("/c/oci-log".into()),
            json_log: true,
            command: Some(3),
            bundle: Some("/b".into()),
            id: Some(8),
            ..CommandLine::default()
        };
        assert_eq!(parse(podman), want);
        let containerd =
            parse("--root /r --log file:/l --log-format json exec --process /x --console-socket /s --detach id");
        assert_eq!((containerd.root, containerd.log), (Some("/r".into()), Some("/l".into())));
        assert_eq!((containerd.process, containerd.id), (Some(("/x".into(), 8)), Some(12)));
    }

    #[test]
    fn updates() {
        let podman = parse("update --resources=/r id");
        assert_eq!((podman.resources, podman.memory, podman.id), (Some(("/r".into(), 1)), false, Some(2)));
        let containerd = parse("--root /x update --resources - id");
        assert_eq!((containerd.resources, containerd.id), (Some(("-".into(), 4)), Some(5)));
        let by_hand = parse("update --cpu-share 5 --memory-swap 7 id");
        assert_eq!((by_hand.resources, by_hand.memory, by_hand.id), (None, true, Some(5)));
    }

    #[test]
    fn what_follows_the_id_is_the_containers() {
        let line = parse("exec -t --env A=b id cmd --bundle x");
        assert_eq!((line.command, line.id, line.bundle), (Some(0), Some(4), None));
        assert_eq!(parse("--version"), CommandLine::default());
        assert_eq!(parse("create -- -id").id, Some(2));
    }
}
