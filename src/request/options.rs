//! The options that follow the image: one table for the parser, the annotations, `--help` and the documentation.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::image::Format;
use crate::request::ports::{self, Port};

/// Prefix of the annotations that carry options.
pub const ANNOTATION_PREFIX: &str = "run.oci.qemu.";

/// What was asked with options and annotations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `--cloud-init`: a NoCloud directory of the host's.
    pub cloud_init: Option<PathBuf>,
    /// `--emulated`: TCG even where KVM is usable.
    pub emulated: bool,
    /// `--firmware`.
    pub firmware: Firmware,
    /// `--format`: the image's format, declared rather than looked at.
    pub format: Option<Format>,
    /// `--ignition`: a configuration file of the host's.
    pub ignition: Option<PathBuf>,
    /// `--password`: the default user's.
    pub password: Option<String>,
    /// `--password-file`: a file of the host's with it.
    pub password_file: Option<PathBuf>,
    /// `--port`.
    pub ports: Vec<Port>,
    /// `--ssh-key`: a file of the host's with public keys.
    pub ssh_key: Option<PathBuf>,
    /// `--timeout`: seconds.
    pub timeout: Option<u64>,
}

/// What `--firmware` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    /// BIOS where the disk can boot so, else UEFI.
    #[default]
    Auto,
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// One row of the table.
pub struct OptionSpec {
    /// Name without the dashes; the annotation is [`ANNOTATION_PREFIX`] and the name.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub argument: Option<&'static str>,
    /// One line.
    pub meaning: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// Takes the value (`true` or `false` for a switch) in.
    set: fn(&mut Options, &str) -> Result<()>,
}

/// Every option there is, by name.
pub const TABLE: &[OptionSpec] = &[
    OptionSpec {
        name: "cloud-init",
        argument: Some("DIR"),
        meaning: "NoCloud directory (absolute) with user-data, meta-data, vendor-data and network-config, added to ours.",
        default: "our own data alone",
        set: |o, v| {
            o.cloud_init = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "emulated",
        argument: None,
        meaning: "Emulate the CPU (TCG) even where KVM is usable.",
        default: "KVM where it is usable",
        set: |o, v| {
            o.emulated = switch("emulated", v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "firmware",
        argument: Some("auto|bios|uefi"),
        meaning: "Firmware of the VM; auto takes BIOS where the disk can boot so, else UEFI.",
        default: "auto",
        set: |o, v| {
            o.firmware = firmware(v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "format",
        argument: Some("qcow2|raw"),
        meaning: "Format of the VM image.",
        default: "found from the image's header",
        set: |o, v| {
            o.format = Some(v.parse()?);
            Ok(())
        },
    },
    OptionSpec {
        name: "ignition",
        argument: Some("FILE"),
        meaning: "Ignition configuration (absolute), specification 3, to which ours is added.",
        default: "our own configuration alone",
        set: |o, v| {
            o.ignition = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "password",
        argument: Some("PASSWORD"),
        meaning: "Password of the image's default user, by cloud-init or Ignition; podman inspect shows it.",
        default: "none",
        set: |o, v| {
            o.password = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "password-file",
        argument: Some("FILE"),
        meaning: "File (absolute) whose first line is that password; a policy has to allow it, see FILES.",
        default: "none",
        set: |o, v| {
            o.password_file = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "port",
        argument: Some("N[/tcp|/udp],…"),
        meaning: "Ports that lead to the guest where the container shares its network (--network host, pods).",
        default: "none there; in a network namespace of its own the guest has every port anyway",
        set: |o, v| {
            o.ports = ports::parse(v)?;
            Ok(())
        },
    },
    OptionSpec {
        name: "ssh-key",
        argument: Some("FILE"),
        meaning: "File (absolute) with public keys that may log in besides the container's own.",
        default: "none",
        set: |o, v| {
            o.ssh_key = Some(v.into());
            Ok(())
        },
    },
    OptionSpec {
        name: "timeout",
        argument: Some("SECONDS"),
        meaning: "How long podman exec waits for the guest's sshd, 1 to 86400.",
        default: "300",
        set: |o, v| {
            o.timeout = Some(timeout(v)?);
            Ok(())
        },
    },
];

/// Where all options are listed.
const SEE: &str = "crun-qemu options lists all";

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::new(format!("--{name}"), format!("\"{value}\" is neither true nor false"))),
    }
}

fn firmware(value: &str) -> Result<Firmware> {
    match value {
        "auto" => Ok(Firmware::Auto),
        "bios" => Ok(Firmware::Bios),
        "uefi" => Ok(Firmware::Uefi),
        _ => Err(Error::new("--firmware", format!("\"{value}\" is unknown")).hint("auto, bios or uefi")),
    }
}

fn timeout(value: &str) -> Result<u64> {
    let seconds = value.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| Error::new("--timeout", format!("\"{value}\" is no number of seconds from 1 to 86400")))
}

impl Options {
    /// Reads `annotations`, then the container's `args`, which win.
    ///
    /// # Errors
    /// An unknown option or annotation, a value that is missing, not wanted or not understood, an option given twice or
    /// beside one that it contradicts, or arguments that are no options.
    pub fn parse<'a>(args: &[String], annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in annotations {
            let Some(name) = key.strip_prefix(ANNOTATION_PREFIX) else { continue };
            let spec = find(name).ok_or_else(|| Error::new(format!("annotation {key}"), "unknown").hint(SEE))?;
            (spec.set)(&mut options, value)?;
        }
        let mut seen = Vec::new();
        let mut rest = of_args(args)?.iter();
        while let Some(arg) = rest.next() {
            let (spec, inline) = recognize(arg)?;
            if seen.contains(&spec.name) {
                return Err(Error::new(format!("--{}", spec.name), "given twice"));
            }
            seen.push(spec.name);
            let value = match (spec.argument, inline) {
                (None, None) => "true",
                (_, Some(value)) => value,
                (Some(argument), None) => rest.next().map(String::as_str).ok_or_else(|| {
                    Error::new(format!("--{}", spec.name), "its value is missing")
                        .hint(format!("--{} {argument}", spec.name))
                })?,
            };
            (spec.set)(&mut options, value)?;
        }
        if options.password.is_some() && options.password_file.is_some() {
            return Err(Error::new("--password-file", "given beside --password").hint("one of the two"));
        }
        Ok(options)
    }
}

/// The part of the container's args that holds options: what follows the first empty one. Without an empty one all of
/// them have to be options, because an image's ENTRYPOINT and CMD arrive in the same list.
fn of_args(args: &[String]) -> Result<&[String]> {
    if let Some(empty) = args.iter().position(String::is_empty) {
        return Ok(&args[empty + 1..]);
    }
    match args.first() {
        Some(first) if !first.starts_with("--") => {
            Err(Error::new(format!("command \"{first}\""), "a VM image runs none")
                .hint("put \"\" after the image, and options after that"))
        }
        _ => Ok(args),
    }
}

fn recognize(arg: &str) -> Result<(&'static OptionSpec, Option<&str>)> {
    let Some(long) = arg.strip_prefix("--") else {
        return Err(Error::new(format!("argument \"{arg}\""), "not an option").hint(SEE));
    };
    let (name, inline) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let spec = find(name).ok_or_else(|| Error::new(format!("--{name}"), "unknown option").hint(SEE))?;
    Ok((spec, inline))
}

fn find(name: &str) -> Option<&'static OptionSpec> {
    TABLE.iter().find(|spec| spec.name == name)
}

/// The table as `--help` prints it.
pub fn help() -> String {
    TABLE.iter().fold(String::new(), |mut text, spec| {
        let argument = spec.argument.map(|a| format!(" {a}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  --{}{argument}\n      {} Default: {}.", spec.name, spec.meaning, spec.default);
        text
    })
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
