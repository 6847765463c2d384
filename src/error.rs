//! The only error type: its text is what the user reads.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Result of every step that can fail because of the user, the host or the image.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure or a warning, `WHAT: WHY (HINT)` on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    what: String,
    why: String,
    hint: Option<String>,
}

impl Error {
    /// `what` names the thing that is wrong (an option, a path, a device), `why` says what is wrong with it.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), hint: None }
    }

    /// The thing that is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why it is wrong.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    /// One line whatever the parts contain: names of files and options come from the user or the image.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", OneLine(&self.what), OneLine(&self.why))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", OneLine(hint)),
            None => Ok(()),
        }
    }
}

/// The line that the user reads of a failure, a warning or a notice. Called where it is printed, and nowhere else.
pub fn line(message: impl fmt::Display) -> String {
    format!("{PREFIX}{message}")
}

/// The message in a line that another process printed with [`line()`].
pub fn of_line(line: &str) -> &str {
    line.strip_prefix(PREFIX).unwrap_or(line)
}

const PREFIX: &str = "qemu: ";

/// Text with control characters escaped, so that a hostile name can neither forge a line nor drive a terminal.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Turns library errors into [`Error`]. [`Error`] itself does not implement the trait, so nesting does not compile.
pub trait Context<T> {
    /// Adds what was being done or read.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: StdError + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::new(what.to_string(), message(&e)))
    }
}

/// The message of an error, without the system's number or name for it.
pub fn message(error: &(dyn StdError + 'static)) -> String {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return errno.desc().to_owned();
    }
    let text = error.to_string();
    match error.downcast_ref::<io::Error>() {
        Some(_) => text.split(" (os error").next().unwrap_or_default().to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_the_parts() {
        let e = Error::new("/disk/a\nb", "not a\x1b[2J disk").hint("try --format");
        assert_eq!(e.to_string(), r"/disk/a\nb: not a\u{1b}[2J disk (try --format)");
    }

    #[test]
    fn messages_have_no_numbers() {
        let io = || io::Error::from_raw_os_error(libc::EACCES);
        for got in [Err::<(), _>(io()).context("x"), Err(Errno::EACCES).context("x")] {
            assert_eq!(line(got.unwrap_err()), "qemu: x: Permission denied");
        }
        let json = serde_json::from_str::<u8>("x").context("x").unwrap_err();
        assert_eq!(json.to_string(), "x: expected value at line 1 column 1");
    }
}
