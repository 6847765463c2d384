//! `crun-qemu image`: VM images outside of VMs. They are judged, packaged as container images and taken out of them.

mod check;
mod directory;
mod engine;
mod outfile;
mod pack;
mod programs;
mod syntax;
mod unpack;

use std::ffi::OsString;

use crun_qemu::error::{Error, Result};

/// The command lines.
pub const USAGE: &str = "crun-qemu image check|pack|unpack …, with --help for more";

/// Runs `image` with the words that follow it.
///
/// # Errors
/// The words are not those of a command, or the command failed.
pub fn run(words: &[OsString]) -> Result<()> {
    let (command, rest) = words.split_first().map_or((None, words), |(first, rest)| (first.to_str(), rest));
    match command {
        Some("check") => check::run(rest),
        Some("pack") => pack::run(rest),
        Some("unpack") => unpack::run(rest),
        Some(unpack::WITH_UMASK) => unpack::with_umask(rest),
        Some("-h" | "--help") => {
            for syntax in [&check::SYNTAX, &pack::SYNTAX, &unpack::SYNTAX] {
                println!("{}", syntax.help());
            }
            Ok(())
        }
        _ => Err(Error::new("image", "needs one of the commands check, pack and unpack").hint(USAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_commands_are_refused() {
        let want = "image: needs one of the commands check, pack and unpack \
                    (crun-qemu image check|pack|unpack …, with --help for more)";
        for words in [&[][..], &["chekc"], &["--json", "check"]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert_eq!(run(&words).unwrap_err().to_string(), want, "{words:?}");
        }
    }
}
