//! Meta-data: what is the user's stays, and the container's keys and instance are in it.

use crun_qemu::first_boot::guest_setup::Setup;
use crun_qemu::first_boot::nocloud::files;
use crun_qemu::first_boot::user_dir::CloudInit;
use serde_json::Value;

use super::{told, vm};

pub fn run(data: &[u8]) {
    let identity = vm::identity();
    let user = CloudInit { meta_data: Some(data.to_vec()), ..CloudInit::default() };
    let Some(files) = told(files(&identity, &Setup::default(), Some(&user))) else { return };
    let file = |name: &str| files.iter().find(|(other, _)| other == name).map(|(_, bytes)| bytes).expect("file");
    let meta: Value = serde_json::from_slice(file("meta-data")).expect("JSON");
    let id = meta["instance-id"].as_str().expect("instance");
    assert!(id.ends_with(&identity.instance_id), "{id:?}");
    let keys = meta["public-keys"].as_array().expect("keys");
    assert!(identity.public_keys.iter().zip(keys).all(|(want, got)| got == want), "{keys:?}");
    assert!(meta.get("local-hostname").is_some());
    let config = file("user-data").strip_prefix(b"#cloud-config\n").expect("its kind");
    serde_json::from_slice::<Value>(config).expect("JSON");
}
