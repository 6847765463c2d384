//! The key pair with which `podman exec` enters the guest: one per container, never the user's own.

use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use crate::error::{Context, Result};

/// Ed25519: it takes microseconds to make, where an RSA pair takes most of a second.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// OpenSSH private key file, unencrypted; to be written with mode 0600.
    pub private: String,
    /// Line for `authorized_keys`, without a newline.
    pub public: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.public)
    }
}

impl KeyPair {
    /// Generates a pair from the kernel's random numbers; `comment` tells the guest's administrator where the key comes
    /// from.
    ///
    /// # Errors
    /// The kernel provides no random numbers.
    pub fn generate(comment: &str) -> Result<Self> {
        const WHAT: &str = "ssh key";
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context(WHAT)?;
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        key.set_comment(comment.replace(char::is_control, " "));
        Ok(Self {
            private: key.to_openssh(LineEnding::LF).context(WHAT)?.to_string(),
            public: key.public_key().to_openssh().context(WHAT)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_openssh_would_read() {
        let pair = KeyPair::generate("crun-qemu").unwrap();
        let private = PrivateKey::from_openssh(&pair.private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), pair.public);
        assert!(pair.public.starts_with("ssh-ed25519 ") && pair.public.ends_with(" crun-qemu"), "{}", pair.public);
        assert_ne!(pair, KeyPair::generate("crun-qemu").unwrap());
    }
}
