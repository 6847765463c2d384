use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::plan::tests::host;

const OLD: Duration = Duration::from_secs(31 * 24 * 60 * 60);

fn cache(base: &TempDir) -> Cache {
    Cache { base: base.path().into(), key: format!("{PREFIX}tcg-1") }
}

/// What a probe leaves.
fn fill(scratch: &Path) -> std::result::Result<PathBuf, String> {
    let dir = scratch.join("cache");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("x.xml"), "x").unwrap();
    fs::set_permissions(dir.join("x.xml"), PermissionsExt::from_mode(0o600)).unwrap();
    Ok(dir)
}

fn age(path: &Path, age: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn it_is_filled_once_and_for_everybody() {
    let base = tempfile::tempdir().unwrap();
    let done = cache(&base).filled(fill).unwrap();
    assert_eq!(fs::metadata(done.join("x.xml")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(cache(&base).filled(|_| panic!("asked again")), Some(done));
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
}

#[test]
fn a_failure_is_remembered_with_its_reason_for_a_while() {
    let base = tempfile::tempdir().unwrap();
    let cache = cache(&base);
    assert_eq!(cache.filled(|_| Err("no answer".into())), None);
    assert_eq!(cache.failure().as_deref(), Some("no answer"));
    assert_eq!(cache.filled(|_| panic!("asked again")), None);
    // Another QEMU or kernel is another matter.
    let other = Cache { base: base.path().into(), key: format!("{PREFIX}tcg-2") };
    assert!(other.failure().is_none() && other.filled(fill).is_some());
    age(&cache.reason(), FAILED + Duration::from_secs(1));
    assert_eq!(cache.failure(), None);
    assert!(cache.filled(fill).is_some());
}

/// A QEMU that hangs: the supervisor's part is played by something that hangs as well.
#[test]
fn one_that_hangs_is_not_waited_for() {
    let base = tempfile::tempdir().unwrap();
    let (init, calls) = (base.path().join("init"), base.path().join("calls"));
    fs::write(&init, format!("#!/bin/sh\necho $@ >> {}\nexec sleep 1000\n", calls.display())).unwrap();
    fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).unwrap();
    let host = Host { init, ..host() };
    let ask = || cache(&base).filled(|scratch| probe(&host, Accelerator::Tcg, scratch, Duration::from_secs(1)));
    assert_eq!((ask(), ask()), (None, None));
    assert_eq!(cache(&base).failure().as_deref(), Some("no answer in 1 seconds"));
    let calls = fs::read_to_string(calls).unwrap();
    assert!(calls.lines().count() == 1 && calls.ends_with(" --emulated\n"), "{calls}");
}

#[test]
fn what_is_ours_and_unused_goes() {
    let base = tempfile::tempdir().unwrap();
    let ours = |name: &str| format!("{PREFIX}{name}");
    let names =
        [ours("old"), ours("new"), ours("old.failed"), ours("new-7"), "guests".into(), "accelerator.json".into()];
    for name in &names {
        let path = base.path().join(name);
        if name.contains('.') {
            fs::write(&path, "x").unwrap();
        } else {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("f"), "x").unwrap();
        }
        if *name != ours("new") {
            age(&path, OLD);
        }
    }
    // One that cannot be looked into keeps nobody.
    symlink("nowhere", base.path().join(ours("a-link"))).unwrap();
    remove_unused(base.path(), SystemTime::now() - KEPT);
    let mut left: Vec<_> =
        fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["accelerator.json".into(), ours("a-link"), ours("new"), "guests".into()]);
}

#[test]
fn what_a_container_is_about_to_use_stays() {
    let base = tempfile::tempdir().unwrap();
    let cache = cache(&base);
    let done = cache.filled(fill).unwrap();
    age(&done, OLD);
    // It is handed out, and another container's start tidies up.
    assert_eq!(cache.filled(fill), Some(done.clone()));
    remove_unused(base.path(), SystemTime::now() - KEPT);
    assert!(done.join("x.xml").exists());
    // Nobody removes anything while one is being handed out.
    age(&done, OLD);
    let held = locked(base.path(), FlockArg::LockShared).unwrap();
    remove_unused(base.path(), SystemTime::now() - KEPT);
    assert!(done.exists());
    drop(held);
    remove_unused(base.path(), SystemTime::now() - KEPT);
    assert!(!done.exists());
}

#[test]
fn a_labelled_container_has_a_copy() {
    let base = tempfile::tempdir().unwrap();
    let done = cache(&base).filled(fill).unwrap();
    let dir = PrivateDir::open(base.path().join("d"), None).unwrap().labelled(Some("l"));
    let copied = copy(&done, &dir).unwrap();
    assert_eq!(fs::read_to_string(copied.join("x.xml")).unwrap(), "x");
    assert_eq!(super::super::label::of(&copied.join("x.xml")).as_deref(), Some("l"));
    // The container starts again.
    assert_eq!(copy(&done, &dir), Ok(copied));
}
