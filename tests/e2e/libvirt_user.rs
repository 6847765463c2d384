//! libvirt as other distributions build it.

use std::fs;
use std::process::Command;

use crate::harness::{directory, text};

/// Where Debian has libvirt's driver for QEMU.
const DRIVER: &str = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";

#[test]
fn a_libvirt_whose_user_is_qemu_starts() {
    let mut driver = fs::read(DRIVER).unwrap();
    // Other strings of the driver end where this one does, and are looked up in its end.
    let (debian, fedora) = (b"\0libvirt-qemu\0", b"\0qemu\0\0\0\0qemu\0");
    let places: Vec<_> = (0..driver.len()).filter(|at| driver[*at..].starts_with(debian)).collect();
    let [place] = places[..] else { panic!("{places:?}: the name of its user is there once") };
    driver[place..][..fedora.len()].copy_from_slice(fedora);

    let dir = directory();
    let (patched, scratch) = (dir.path().join("driver.so"), dir.path().join("scratch"));
    fs::write(&patched, driver).unwrap();
    let script =
        "mount --bind \"$1\" \"$2\" && exec /usr/local/libexec/crun-qemu/crun-qemu-init probe \"$3\" --emulated";
    let mut probe = Command::new("unshare");
    probe.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&patched).arg(DRIVER).arg(&scratch);
    let output = probe.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(scratch.join("cache/qemu/capabilities")).unwrap().count(), 1);
}
