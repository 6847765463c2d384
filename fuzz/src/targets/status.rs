//! `status` in the container: the supervisor's mark and what the domain says, both of which the container can reach.

use crun_qemu::handoff::supervisor_config::{SupervisorConfig, Virtiofs};
use supervisor::status::Status;

use super::scratch::{path, with_file};
use super::told;

/// The mark, a NUL, what is shared, a NUL, the domain.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let (mark, target, domain) = (parts.next(), parts.next(), parts.next());
    let text = |part: Option<&[u8]>| String::from_utf8_lossy(part.unwrap_or_default()).into_owned();
    let share = Virtiofs {
        dir: "/d".into(),
        socket: "/s".into(),
        target: text(target),
        read_only: data.len().is_multiple_of(2),
    };
    let launch = SupervisorConfig { domain: text(domain), virtiofs: vec![share], ..SupervisorConfig::default() };
    let status = with_file(mark.unwrap_or_default(), 0, |file| told(Status::new(&launch, &path(file))));
    let Some(status) = status else { return };
    let table = status.table();
    assert_eq!(table.lines().count(), 7 + status.disks.len(), "{table}");
    assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
    serde_json::to_string(&status).expect("JSON");
    // The launch itself comes back from JSON as it was.
    let json = serde_json::to_vec(&launch).expect("JSON");
    assert_eq!(serde_json::from_slice::<SupervisorConfig>(&json).ok().as_ref(), Some(&launch));
    let _ = serde_json::from_slice::<SupervisorConfig>(data);
}
