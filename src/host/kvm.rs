//! Whether KVM runs a guest's code. A `/dev/kvm` that opens proves little: if the host's own hypervisor hides the CPU's
//! virtualization, some KVMs accept VMs and cannot run them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::ask::{Answer, ask};
use super::cache;

/// Limit for a program that takes a few milliseconds: the host may be busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds for which a program that took too long is believed to hang.
const HANGS: u64 = 60 * 60;
/// File of the answer.
const NAME: &str = "accelerator.json";
/// The supervisor's exit status when KVM took the program and did not run it.
pub const BROKEN: i32 = 2;

/// The remembered answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Identifies the KVM.
    key: String,
    /// Why it does not run code; nothing where it does.
    why: Option<String>,
    /// After this time, seconds since 1970, it is not to be believed.
    until: Option<u64>,
}

/// Whether KVM runs code: asked once until the host reboots or the kernel module is reloaded. `init`, the supervisor's
/// executable, does the asking.
///
/// # Errors
/// Why it does not.
pub fn runs_code(init: &Path) -> Result<(), String> {
    let file = cache::directory().map(|dir| dir.join(NAME));
    let key = key(Path::new("/dev/kvm"));
    remembered_or_asked(file.as_deref(), key.as_deref(), || ask(init, &[OsStr::new("kvm")], PATIENCE))
}

fn remembered_or_asked(file: Option<&Path>, key: Option<&str>, ask: impl FnOnce() -> Answer) -> Result<(), String> {
    let text = file.and_then(|file| fs::read(file).ok());
    let memory: Option<Memory> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let fresh = |m: &Memory| Some(m.key.as_str()) == key && m.until.is_none_or(|until| now() < until);
    if let Some(memory) = memory.filter(fresh) {
        return memory.why.map_or(Ok(()), Err);
    }
    let (result, until) = match ask() {
        Answer::Done(0, _) => (Ok(()), None),
        Answer::Done(BROKEN, why) => (Err(why), None),
        Answer::Late | Answer::Killed => (Err(hangs()), Some(now() + HANGS)),
        // Such as a lack of memory, or another hypervisor at work: another time it may do.
        Answer::Done(1, why) => return Err(why),
        // QEMU reports it then.
        Answer::Done(..) | Answer::Unasked => return Ok(()),
    };
    if let (Some(file), Some(key)) = (file, key) {
        remember(file, &Memory { key: key.into(), why: result.clone().err(), until });
    }
    result
}

fn hangs() -> String {
    "a small program under KVM hangs".into()
}

/// Identifies the KVM and the boot: the kernel makes a new device node when the module is loaded.
fn key(device: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let node = fs::metadata(device).ok()?;
    Some(format!("{} {} {}.{}", boot.trim(), node.ino(), node.ctime(), node.ctime_nsec()))
}

/// Stores the answer. If that fails, the next VM asks again, which takes a moment.
fn remember(file: &Path, memory: &Memory) {
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let text = serde_json::to_vec(memory).unwrap_or_default();
    let _ = file.parent().map(fs::create_dir_all);
    if fs::write(&new, text).and_then(|()| fs::rename(&new, file)).is_err() {
        let _ = fs::remove_file(new);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases: answer, result, and whether the next VM asks again.
    #[test]
    fn what_is_certain_is_asked_once() {
        let broken = || Err("it stops".to_string());
        for (answer, want, again) in [
            (Answer::Done(0, String::new()), Ok(()), false),
            (Answer::Done(BROKEN, "it stops".into()), broken(), false),
            (Answer::Late, Err(hangs()), false),
            (Answer::Killed, Err(hangs()), false),
            (Answer::Done(1, "busy".into()), Err("busy".into()), true),
            (Answer::Done(101, "a panic".into()), Ok(()), true),
            (Answer::Unasked, Ok(()), true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("cache/answer");
            let mut asked = 0;
            let mut ask = |key| {
                remembered_or_asked(Some(&file), Some(key), || {
                    asked += 1;
                    answer.clone()
                })
            };
            assert_eq!([ask("boot 1"), ask("boot 1")], [want.clone(), want.clone()], "{answer:?}");
            assert_eq!(ask("boot 2"), want);
            assert_eq!(asked, if again { 3 } else { 2 }, "{answer:?}");
        }
    }

    #[test]
    fn a_hang_is_believed_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("answer");
        remember(&file, &Memory { key: "k".into(), why: Some(hangs()), until: Some(now() - 1) });
        assert_eq!(remembered_or_asked(Some(&file), Some("k"), || Answer::Done(0, String::new())), Ok(()));
        // A file that is not ours is not believed.
        fs::write(&file, "{}").unwrap();
        assert_eq!(remembered_or_asked(Some(&file), Some("k"), || Answer::Late), Err(hangs()));
    }

    #[test]
    fn a_new_node_is_a_new_kvm() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        fs::write(&one, "").unwrap();
        fs::write(&two, "").unwrap();
        assert_eq!(key(&one), key(&one));
        assert_ne!(key(&one), key(&two));
        assert_eq!(key(Path::new("/nowhere")), None);
    }
}
