//! The user's credentials for the guest: public keys and a password.

use base64ct::{Base64, Encoding};
use sha_crypt::{Sha512Params, sha512_crypt_b64};
use ssh_key::PublicKey;

use super::guest_setup::Setup;
use crate::error::{Context, Error, Result};

/// The public keys in a file of OpenSSH's format, a line each, with their options and comments.
///
/// # Errors
/// A line is not a public key, there is none, or, above all, it is a private key.
pub fn public_keys(option: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(option, "not a public key"))?;
    if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
        let why = "this is a PRIVATE key, which must never reach a guest";
        return Err(Error::new(option, why).hint("give the file that ends in .pub"));
    }
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let key = PublicKey::from_openssh(line).or_else(|e| match after_options(line) {
            Some(key) => PublicKey::from_openssh(key),
            None => Err(e),
        });
        // The parser's own message can quote the file.
        key.map_err(|_| Error::new(option, "not a public key in OpenSSH's format"))?;
        // A file with bare carriage returns as line ends would be one key with a long comment.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Error::new(option, "a control character in a public key").hint("lines end in newlines"));
        }
        keys.push(line.to_owned());
    }
    if keys.is_empty() {
        return Err(Error::new(option, "no public key in it"));
    }
    Ok(keys)
}

/// The part of an `authorized_keys` line after the options, which end at the first blank outside quotes.
fn after_options(line: &str) -> Option<&str> {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    })?;
    Some(line[end..].trim_start())
}

/// The password in a file: its first line.
///
/// # Errors
/// When it is not text.
pub fn first_line<'a>(option: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line).map_err(|_| Error::new(option, "its first line is not UTF-8"))
}

/// Hashes the password for `crypt(3)` with SHA-512, which every guest's C library supports.
///
/// # Errors
/// When it is empty or has a control character: a guest's login could not take it.
pub fn password_hash(option: &str, password: &str) -> Result<String> {
    if password.is_empty() || password.contains(char::is_control) {
        return Err(Error::new(option, "empty, or with a newline or another control character"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).context(option)?;
    hash(option, password, &salt.map(|b| SALT[usize::from(b) % SALT.len()]))
}

const SALT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn hash(option: &str, password: &str, salt: &[u8]) -> Result<String> {
    let digest = sha512_crypt_b64(password.as_bytes(), salt, &Sha512Params::default());
    let digest = digest.map_err(|_| Error::new(option, "cannot be hashed"))?;
    Ok(format!("$6${}${digest}", String::from_utf8_lossy(salt)))
}

/// SMBIOS type 11 strings by which systemd takes root's keys and lines for tmpfiles.d, from version 252 on, and lines
/// for fstab, from 254 on. They stand in QEMU's argv: nothing secret may be among them.
pub fn systemd(public_keys: &[String], setup: &Setup) -> Vec<String> {
    let keys: String = public_keys.iter().map(|key| format!("{key}\n")).collect();
    let credentials =
        [("ssh.authorized_keys.root", keys), ("fstab.extra", setup.fstab()), ("tmpfiles.extra", setup.tmpfiles())];
    let string = |(name, text): (&str, String)| {
        let text = Base64::encode_string(text.as_bytes());
        format!("io.systemd.credential.binary:{name}={text}")
    };
    credentials.into_iter().filter(|(_, text)| !text.is_empty()).map(string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_file() {
        const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOu5lPAOd2WEWCGcrKkN5uL8ug5xgE9jaRjXIUdta+MW";
        let file = format!("# mine\n\n{KEY} a b\ncommand=\"a b\",no-pty {KEY}\n");
        let keys = public_keys("--ssh-key", file.as_bytes()).unwrap();
        assert_eq!(keys, [format!("{KEY} a b"), format!("command=\"a b\",no-pty {KEY}")]);
        let private = super::super::keys::KeyPair::generate("").unwrap().private;
        for (file, why) in [
            (private.as_str(), "a PRIVATE key"),
            ("", "no public key"),
            ("ssh-ed25519 xyz", "not a public key"),
            ("#!/bin/sh\necho", "not a public key"),
            (&format!("{KEY} a\r{KEY} b\r"), "a control character in a public key"),
            (&format!("{KEY} a\0b\n"), "a control character in a public key"),
        ] {
            let e = public_keys("--ssh-key", file.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }

    #[test]
    fn a_hash_that_crypt_makes_too() {
        // openssl passwd -6 -salt abcdefgh 'pa ss'
        assert_eq!(
            hash("--password", "pa ss", b"abcdefgh").unwrap(),
            "$6$abcdefgh$aAcROoG551kYhUKpAjxWZFUqHvnEd42OxGLdK9YDmQWc.aM2LXklTwKBA0EyqYCJQoTcPGOpSAefW.b3NdZJ3."
        );
        assert_ne!(password_hash("--password", "x").unwrap(), password_hash("--password", "x").unwrap());
        assert!(password_hash("--password", "a\nb").is_err() && password_hash("--password", "").is_err());
    }

    #[test]
    fn a_password_in_a_file() {
        for (file, want) in [("pa ss", "pa ss"), ("x\n", "x"), ("x\r\ny\n", "x"), ("\nx", ""), ("", "")] {
            assert_eq!(first_line("--password-file", file.as_bytes()).unwrap(), want, "{file:?}");
        }
        let e = first_line("--password-file", b"\xff\n").unwrap_err().to_string();
        assert_eq!(e, "--password-file: its first line is not UTF-8");
    }

    #[test]
    fn systemds_credential() {
        let want = "io.systemd.credential.binary:ssh.authorized_keys.root=c3NoLWVkMjU1MTkgQUFBQQpzc2gtcnNhIEJCCg==";
        assert_eq!(systemd(&["ssh-ed25519 AAAA".into(), "ssh-rsa BB".into()], &Setup::default()), [want]);
    }
}
