//! What the guest is told on its first boot: read from where the user's options point, written where the guest looks.

use std::fs;

use super::private_dir::PrivateDir;
use super::skeleton;
use crate::error::{Context, Result};
use crate::first_boot::keys::KeyPair;
use crate::first_boot::nocloud;
use crate::first_boot::read::{self, CloudInit};
use crate::first_boot::setup::Setup;
use crate::first_boot::{Identity, credentials, ignition, seed, user_data};
use crate::network::names;
use crate::paths;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::request::options::Options;

/// The public half of the container's key, on the host's side.
const PUBLIC_KEY: &str = "id.pub";
/// The default user of the images that Ignition configures.
const IGNITION_USER: &str = "core";

/// What the user's options name.
pub struct Wishes {
    cloud_init: Option<CloudInit>,
    ignition: Option<Vec<u8>>,
    public_keys: Vec<String>,
    password_hash: Option<String>,
}

impl Wishes {
    /// Reads it.
    ///
    /// # Errors
    /// A file that cannot be read or is not what its option takes.
    pub fn read(options: &Options) -> Result<Self> {
        let keys = options.ssh_key.as_deref().map(|path| read::file("--ssh-key", path)).transpose()?;
        let keys = keys.map(|bytes| credentials::public_keys("--ssh-key", &bytes)).transpose()?;
        Ok(Self {
            cloud_init: options.cloud_init.as_deref().map(read::cloud_init).transpose()?,
            ignition: options.ignition.as_deref().map(|path| read::file("--ignition", path)).transpose()?,
            public_keys: keys.unwrap_or_default(),
            password_hash: password_hash(options)?,
        })
    }

    /// The users of the guest that the user-data and the Ignition configuration name.
    pub fn users(&self) -> Result<Vec<String>> {
        let mut users = self.ignition.as_deref().map_or_else(|| Ok(Vec::new()), ignition::users)?;
        let data = self.cloud_init.as_ref().and_then(|files| files.user_data.as_deref());
        users.extend(data.map(user_data::users).unwrap_or_default());
        Ok(users)
    }
}

/// The password itself goes no further than this.
fn password_hash(options: &Options) -> Result<Option<String>> {
    if let Some(path) = &options.password_file {
        const OPTION: &str = "--password-file";
        Policy::read()?.allow_host_path(OPTION)?;
        let bytes = read::file(OPTION, path)?;
        return credentials::password_hash(OPTION, credentials::first_line(OPTION, &bytes)?).map(Some);
    }
    options.password.as_deref().map(|password| credentials::password_hash("--password", password)).transpose()
}

/// Makes the key pair unless the container has it already, and the documents for every way of telling a guest.
/// Returns the strings for its SMBIOS tables.
/// `hosts` is what the engine says of others.
pub fn write(dir: &PrivateDir, plan: &Plan, wishes: Wishes, hosts: &str) -> Result<Vec<String>> {
    let inside = |path: &str| format!("{}{path}", skeleton::ROOT);
    let mut public_keys = vec![own_key(dir)?];
    public_keys.extend(wishes.public_keys);
    let identity = Identity {
        instance_id: plan.uuid.clone(),
        hostname: plan.hostname.clone(),
        public_keys,
        password_hash: wishes.password_hash,
    };
    let setup = Setup::new(&plan.passed, &names::hosts(hosts, &plan.hostname));
    let files = nocloud::files(&identity, &setup, wishes.cloud_init.as_ref())?;
    let ignition = ignition::config(&identity, IGNITION_USER, &setup, wishes.ignition.as_deref())?;
    for (path, content) in [(paths::IGNITION, ignition), (paths::SETUP, setup.file())] {
        let file = dir.write(&inside(path), 0o600, content.as_bytes())?;
        dir.let_in(&file, plan.user.as_ref(), false)?;
    }
    let disk = dir.join(&inside(paths::SEED));
    match fs::remove_file(&disk) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(disk.display()),
        _ => {}
    }
    seed::write(&disk, &files)?;
    dir.give(&disk)?;
    Ok(credentials::systemd(&identity.public_keys, &setup))
}

/// The container's own public key.
fn own_key(dir: &PrivateDir) -> Result<String> {
    if let Some(line) = dir.read(PUBLIC_KEY)? {
        return Ok(String::from_utf8_lossy(&line).trim_end().to_string());
    }
    let pair = KeyPair::generate("crun-qemu")?;
    dir.write(&format!("{}{}", skeleton::ROOT, paths::SSH_KEY), 0o600, pair.private.as_bytes())?;
    dir.write(PUBLIC_KEY, 0o644, pair.public.as_bytes())?;
    Ok(pair.public)
}
