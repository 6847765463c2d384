//! Reads options from the container's arguments and annotations.

use super::options::{ANNOTATION_PREFIX, OptionSpec, Options, TABLE};
use crate::error::{Error, Result};

/// Hint that names the list of options.
const SEE: &str = "crun-qemu options lists all";

impl Options {
    /// Reads `annotations`, then the container's `args`, which win.
    ///
    /// # Errors
    /// An unknown option or annotation, a value that is missing, superfluous or invalid, an option given twice or
    /// with one that contradicts it, or arguments that are not options.
    pub fn parse<'a>(args: &[String], annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let given = from_args(of_args(args)?)?;
        let mut annotations: Vec<_> = annotations.filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX)).collect();
        // Annotations are unordered, and the order of devices is visible to the guest.
        annotations.sort_unstable();
        // A value that an argument replaces must still be valid.
        let (mut options, mut replaced) = (Self::default(), Self::default());
        for (key, value) in annotations {
            let spec = named(key).ok_or_else(|| Error::new(format!("annotation {key}"), "unknown").hint(SEE))?;
            let wins = given.iter().all(|(other, _)| other.name != spec.name);
            (spec.set)(if wins { &mut options } else { &mut replaced }, value)?;
            if wins {
                options.annotations.insert(spec.name);
            }
        }
        given.into_iter().try_for_each(|(spec, value)| (spec.set)(&mut options, value))?;
        if options.password.is_some() && options.password_file.is_some() {
            return Err(Error::new("--password-file", "given beside --password").hint("one of the two"));
        }
        if options.persistent && options.disk_size.is_some() {
            return Err(Error::new("--disk-size", "given beside --persistent").hint("resize the image with qemu-img"));
        }
        Ok(options)
    }

    /// Whether the option's value comes from an annotation, which an image or a pod's author may have written.
    pub fn is_annotation(&self, name: &str) -> bool {
        self.annotations.contains(name)
    }
}

/// The option that an annotation stands for.
fn named(key: &str) -> Option<&'static OptionSpec> {
    let name = key.strip_prefix(ANNOTATION_PREFIX)?;
    match name.split_once('.') {
        None => find(name),
        Some((name, which)) => find(name).filter(|spec| spec.repeat && !which.is_empty()),
    }
}

/// Each option with its value, in order.
fn from_args(args: &[String]) -> Result<Vec<(&'static OptionSpec, &str)>> {
    let mut given: Vec<(&OptionSpec, &str)> = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (spec, inline) = recognize(arg)?;
        if !spec.repeat && given.iter().any(|(other, _)| other.name == spec.name) {
            return Err(Error::new(format!("--{}", spec.name), "given twice"));
        }
        let value = match (spec.argument, inline) {
            (None, None) => "true",
            (_, Some(value)) => value,
            (Some(argument), None) => rest.next().map(String::as_str).ok_or_else(|| {
                Error::new(format!("--{}", spec.name), "its value is missing")
                    .hint(format!("--{} {argument}", spec.name))
            })?,
        };
        given.push((spec, value));
    }
    Ok(given)
}

/// The part of the container's args that contains options: everything after the first empty one. Without an empty one,
/// all args must be options, because an image's ENTRYPOINT and CMD arrive in the same list.
fn of_args(args: &[String]) -> Result<&[String]> {
    if let Some(empty) = args.iter().position(String::is_empty) {
        // No image's command begins so.
        if args[0].starts_with('-') {
            return Err(Error::new(
                format!("argument \"{}\"", args[0]),
                "it is before the \"\" and has no effect there",
            )
            .hint("an engine's options go before the image, a VM's after the \"\""));
        }
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
