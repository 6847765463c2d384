//! First-boot data: read from the user's files, written where the guest finds them.

use std::fs;
use std::path::PathBuf;

use super::private_dir::PrivateDir;
use super::skeleton;
use crate::error::{Context, Result};
use crate::first_boot::guest_setup::Setup;
use crate::first_boot::keys::KeyPair;
use crate::first_boot::nocloud;
use crate::first_boot::user_dir::CloudInit;
use crate::first_boot::{Identity, credentials, ignition, seed, user_data};
use crate::handoff::paths;
use crate::host::policy::Policy;
use crate::host::user_files::UserFiles;
use crate::network::names;
use crate::plan::Plan;
use crate::request::options::Options;

/// The public half of the container's key, on the host side.
const PUBLIC_KEY: &str = "id.pub";
/// The default user of the images that Ignition configures.
const IGNITION_USER: &str = "core";

/// Bytes of the longest name of a file.
const LONGEST_USER: usize = 255;
/// More users than any guest is entered as.
const MOST_USERS: usize = 1000;

/// Content of the user's first-boot options.
pub struct FirstBootInput {
    cloud_init: Option<CloudInit>,
    ignition: Option<Vec<u8>>,
    /// The guest's users whom these name.
    pub users: Vec<String>,
    public_keys: Vec<String>,
    password_hash: Option<String>,
}

impl FirstBootInput {
    /// Reads it.
    ///
    /// # Errors
    /// A file that cannot be read or is not what its option takes.
    pub fn read(options: &Options, files: &UserFiles) -> Result<Self> {
        let read = |option, path: &Option<PathBuf>| path.as_deref().map(|path| files.file(option, path)).transpose();
        let keys = read("ssh-key", &options.ssh_key)?;
        let keys = keys.map(|bytes| credentials::public_keys("--ssh-key", &bytes)).transpose()?;
        let ignition = read("ignition", &options.ignition)?;
        let dir = options.cloud_init.as_deref().map(|path| files.directory("cloud-init", path)).transpose()?;
        let cloud_init = dir.map(|dir| CloudInit::read(&dir)).transpose()?;
        let users = users(cloud_init.as_ref(), ignition.as_deref())?;
        Ok(Self {
            cloud_init,
            ignition,
            users,
            public_keys: keys.unwrap_or_default(),
            password_hash: password_hash(options, files)?,
        })
    }
}

/// The guest's users whom user-data and Ignition configuration name, as far as they are names of files, and not more of
/// them than a host can be asked to make files for.
fn users(cloud_init: Option<&CloudInit>, ignition: Option<&[u8]>) -> Result<Vec<String>> {
    let mut users = ignition.map_or_else(|| Ok(Vec::new()), ignition::users)?;
    let data = cloud_init.and_then(|files| files.user_data.as_deref());
    users.extend(data.map(user_data::users).unwrap_or_default());
    users.retain(|name| (1..=LONGEST_USER).contains(&name.len()) && !name.contains(['/', '\0']));
    users.sort();
    users.dedup();
    users.truncate(MOST_USERS);
    Ok(users)
}

/// The password itself goes no further than this.
fn password_hash(options: &Options, files: &UserFiles) -> Result<Option<String>> {
    if let Some(path) = &options.password_file {
        const OPTION: &str = "--password-file";
        Policy::read()?.allow_host_path(OPTION)?;
        let bytes = files.file(&OPTION[2..], path)?;
        return credentials::password_hash(OPTION, credentials::first_line(OPTION, &bytes)?).map(Some);
    }
    options.password.as_deref().map(|password| credentials::password_hash("--password", password)).transpose()
}

/// Makes the key pair unless the container has it already, and the documents for every way of telling a guest.
/// Returns the strings for its SMBIOS tables.
/// `hosts` is what the engine says of others.
pub fn write(dir: &PrivateDir, plan: &Plan, input: FirstBootInput, hosts: &str) -> Result<Vec<String>> {
    let inside = |path: &str| format!("{}{path}", skeleton::ROOT);
    let mut public_keys = vec![own_key(dir)?];
    public_keys.extend(input.public_keys);
    let identity = Identity {
        instance_id: plan.uuid.clone(),
        hostname: plan.hostname.clone(),
        public_keys,
        password_hash: input.password_hash,
    };
    let setup = Setup::new(&plan.attachments, &names::hosts(hosts, &plan.hostname));
    let files = nocloud::files(&identity, &setup, input.cloud_init.as_ref())?;
    let ignition = ignition::config(&identity, IGNITION_USER, &setup, input.ignition.as_deref())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_of_files_and_not_too_many() {
        let named = |names: Vec<String>| {
            let names: Vec<_> = names.iter().map(|name| serde_json::json!({"name": name})).collect();
            let config = serde_json::json!({"ignition": {"version": "3.0.0"}, "passwd": {"users": names}});
            users(None, Some(config.to_string().as_bytes())).unwrap()
        };
        let odd = ["b", "", "a/b", "a", "b", "x\0", &"l".repeat(256)];
        assert_eq!(named(odd.map(String::from).into()), ["a", "b"]);
        assert_eq!(named((0..100_000).map(|n| format!("user{n}")).collect()).len(), 1000);
    }
}
