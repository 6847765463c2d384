//! Small files of lines: policies, the engine's `hosts` and `resolv.conf`, public keys, limits.

use std::path::Path;

use crun_qemu::edits::memory_limits;
use crun_qemu::first_boot::credentials;
use crun_qemu::host::policy::Policy;
use crun_qemu::network::names;

use super::told;

pub fn run(data: &[u8]) {
    if let Some(keys) = told(credentials::public_keys("--ssh-key", data)) {
        assert!(!keys.is_empty() && keys.iter().all(|key| !key.contains(['\n', '\r'])), "{keys:?}");
        assert!(!keys.concat().contains("PRIVATE KEY"));
    }
    told(credentials::first_line("--password-file", data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    policy(text);
    for domain in names::search(text) {
        assert!(domain.split('.').all(|label| label.len() <= 63) && domain.len() <= 254);
    }
    names::resolvers(text);
    for (address, known) in names::hosts(text, "own") {
        assert!(address.parse::<std::net::IpAddr>().is_ok());
        assert!(known.split(' ').all(|name| !name.is_empty() && name != "own" && name.is_ascii()), "{known:?}");
    }
    if let Some(limit) = memory_limits::number(text) {
        assert!(memory_limits::raised(limit, 1) >= limit && memory_limits::raised(limit, u64::MAX) >= limit);
    }
    memory_limits::raised_text(text, u64::MAX);
    let _ = memory_limits::RequestedLimits::of_config(text);
}

fn policy(text: &str) {
    let (system, own) = (Path::new("/s"), Path::new("/o"));
    let Some(alone) = told(Policy::parse(&[(system, text)])) else { return };
    let allowed = |policy: &Policy| {
        [told(policy.allow_host_path("--ignition")).is_some(), told(policy.allow_vfio("--vfio-pci", true)).is_some()]
    };
    let said = allowed(&alone);
    // The user's own file adds nothing to what it says itself, and lifts no denial of the system's.
    let denied = Policy::parse(&[(system, "host-paths = deny\nvfio = deny"), (own, text)]).expect("both are right");
    assert_eq!(allowed(&denied), [false; 2]);
    let twice = Policy::parse(&[(system, text), (own, text)]).expect("both are right");
    assert_eq!(allowed(&twice), said);
}
