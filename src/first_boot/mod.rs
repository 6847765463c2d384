//! Documents for the guest's first boot: cloud-init, Ignition and systemd credentials.
//!
//! The documents are pure functions of [`Identity`] and the user's files ([`user_dir`]); [`keys`] and [`seed`] make
//! what must exist on disk. Runs on the creating side; the user's files are hostile.

pub mod credentials;
pub mod guest_setup;
pub mod ignition;
pub mod keys;
pub mod nocloud;
pub mod seed;
pub mod user_data;
pub mod user_dir;
mod yaml;

/// Identity of the guest and the credentials for it, whichever mechanism delivers them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Unique to the container and the same over its restarts: a new one makes a boot the first.
    pub instance_id: String,
    /// The guest's host name.
    pub hostname: String,
    /// Lines as in `authorized_keys`, the container's own first.
    pub public_keys: Vec<String>,
    /// The default user's password as `crypt(3)` has it.
    pub password_hash: Option<String>,
}
