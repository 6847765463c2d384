//! The one error type: it is what the user reads.

use std::fmt;

/// Result of every step that can fail because of the user, the host or the image.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, told as `qemu: WHAT: WHY (HINT)` on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// What is wrong.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    /// One line whatever the parts hold: names of files and options are the user's or the image's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "qemu: {}: {}", OneLine(&self.what), OneLine(&self.why))?;
        match &self.hint {
            Some(hint) => write!(f, " ({})", OneLine(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

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

/// Turns the errors of the standard library and of nix into ours.
pub trait Context<T> {
    /// Says what was being done or read when the error came.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::new(what.to_string(), e.to_string()))
    }
}

/// The system's words for an error, without its number.
pub fn words(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_the_parts() {
        let e = Error::new("/disk/a\nb", "not a\x1b[2J disk").hint("try --format");
        assert_eq!(e.to_string(), r"qemu: /disk/a\nb: not a\u{1b}[2J disk (try --format)");
    }
}
