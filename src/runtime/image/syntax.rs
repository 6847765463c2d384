//! The command lines of `crun-qemu image`. Pure.

use std::ffi::OsString;

use crun_qemu::error::{Error, Result};
use crun_qemu::host::image::Format;

/// A command: its name, meaning and arguments.
pub struct Syntax {
    /// The word after `image`.
    pub name: &'static str,
    /// Meaning of the command, for `--help`.
    pub meaning: &'static str,
    /// The option without a value.
    pub flag: &'static str,
    /// Whether `--format qcow2|raw` is an option.
    pub format: bool,
    /// The operands after the options.
    pub operands: &'static [&'static str],
}

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Whether the option without a value is given.
    pub flag: bool,
    /// The value of `--format`.
    pub format: Option<Format>,
    /// The operands, as many as [`Syntax::operands`].
    pub operands: Vec<OsString>,
}

impl Syntax {
    /// Splits the words after the command's name; prints the help and returns nothing where they ask for it.
    ///
    /// # Errors
    /// An unknown option, a format that is neither qcow2 nor raw, or another number of operands.
    pub fn parse(&self, words: &[OsString]) -> Result<Option<Words>> {
        let mut parsed = Words::default();
        let mut rest = words.iter();
        while let Some(word) = rest.as_slice().first().filter(|word| word.as_encoded_bytes().starts_with(b"-")) {
            rest.next();
            match word.to_string_lossy().split_once('=').unwrap_or((&word.to_string_lossy(), "")) {
                ("--", "") => break,
                ("-h" | "--help", "") => {
                    println!("{}", self.help());
                    return Ok(None);
                }
                (flag, "") if flag == self.flag => parsed.flag = true,
                ("--format", "") if self.format => {
                    let value = rest.next().ok_or_else(|| self.error("--format needs a value"))?;
                    parsed.format = Some(value.to_string_lossy().parse()?);
                }
                ("--format", value) if self.format => parsed.format = Some(value.parse()?),
                _ => return Err(self.error(&format!("{}: unknown option", word.display()))),
            }
        }
        parsed.operands = rest.cloned().collect();
        match parsed.operands.len() == self.operands.len() {
            true => Ok(Some(parsed)),
            false => Err(self.error(&format!("needs {}", self.operands.join(" and ")))),
        }
    }

    /// The command line and the meaning of the command.
    pub fn help(&self) -> String {
        format!("{}\n    {}", self.usage(), self.meaning)
    }

    fn usage(&self) -> String {
        let format = if self.format { " [--format qcow2|raw]" } else { "" };
        format!("crun-qemu image {} [{}]{format} {}", self.name, self.flag, self.operands.join(" "))
    }

    fn error(&self, why: &str) -> Error {
        Error::new(format!("image {}", self.name), why).hint(self.usage())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNTAX: Syntax =
        Syntax { name: "x", meaning: "Does.", flag: "--replace", format: true, operands: &["A", "B"] };

    fn parse(line: &str) -> std::result::Result<Option<Words>, String> {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        SYNTAX.parse(&words).map_err(|e| e.to_string())
    }

    #[test]
    fn options_then_operands() {
        let words = |flag, format, operands: &[&str]| {
            Ok(Some(Words { flag, format, operands: operands.iter().map(OsString::from).collect() }))
        };
        assert_eq!(parse("a b"), words(false, None, &["a", "b"]));
        assert_eq!(parse("--replace a b"), words(true, None, &["a", "b"]));
        assert_eq!(parse("--format raw --replace -- -a b"), words(true, Some(Format::Raw), &["-a", "b"]));
        assert_eq!(parse("--format=qcow2 a --replace"), words(false, Some(Format::Qcow2), &["a", "--replace"]));
        assert_eq!(parse("--replace --help"), Ok(None));
    }

    #[test]
    fn others_are_refused_with_the_usage() {
        let usage = "(crun-qemu image x [--replace] [--format qcow2|raw] A B)";
        for (line, why) in [
            ("a", "needs A and B"),
            ("a b c", "needs A and B"),
            ("--force a b", "--force: unknown option"),
            ("--replace=1 a b", "--replace=1: unknown option"),
            ("- a b", "-: unknown option"),
            ("--format", "--format needs a value"),
        ] {
            assert_eq!(parse(line), Err(format!("image x: {why} {usage}")), "{line}");
        }
        let error = parse("--format vmdk a b").unwrap_err();
        assert!(error.starts_with("disk format \"vmdk\": neither qcow2 nor raw"), "{error}");
    }
}
