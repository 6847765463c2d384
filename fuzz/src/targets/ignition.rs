//! An Ignition configuration: nothing of the user's is lost, and ours is in it once.

use crun_qemu::first_boot::guest_setup::Setup;
use crun_qemu::first_boot::ignition::{config, users};
use serde_json::Value;

use super::{told, vm};

pub fn run(data: &[u8]) {
    let identity = vm::identity();
    let Some(merged) = told(config(&identity, "core", &Setup::default(), Some(data))) else {
        told(users(data));
        return;
    };
    let merged: Value = serde_json::from_str(&merged).expect("JSON");
    let theirs: Value = serde_json::from_slice(data).expect("it was read before");
    kept(&theirs, &merged, "$");
    let names = users(data).expect("it was read before");
    let keys: Vec<_> = identity.public_keys.iter().map(|key| Value::from(key.as_str())).collect();
    for name in names.iter().map(String::as_str).chain(["core", "root"]) {
        let user = merged["passwd"]["users"].as_array().expect("list").iter().find(|user| user["name"] == name);
        let has = user.expect("there")["sshAuthorizedKeys"].as_array().expect("list");
        assert!(has.ends_with(&keys), "{name}: {has:?}");
    }
    let last = merged["systemd"]["units"].as_array().and_then(|units| units.last()).expect("unit");
    assert_eq!(last["name"], "crun-qemu-setup.service");
}

/// Everything in `theirs` is in `ours`, at the same place; lists may only have become longer.
fn kept(theirs: &Value, ours: &Value, place: &str) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            theirs.iter().for_each(|(key, value)| kept(value, &ours[key], key));
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            assert!(ours.len() >= theirs.len());
            theirs.iter().zip(ours).for_each(|(theirs, ours)| kept(theirs, ours, place));
        }
        (theirs, ours) => assert_eq!(theirs, ours, "{place}"),
    }
}
