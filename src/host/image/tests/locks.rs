use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::super::locks;
use super::*;

/// What is seen of the file `image` while a QEMU runs with these arguments: used, written.
fn seen(bench: &Bench, args: &[&str]) -> (bool, bool) {
    // To a pipe it says nothing before its end, unless told to by the line.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "qemu-io", "-f", "qcow2"]).args(args).current_dir(&bench.0);
    let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = qemu.stdin.take().unwrap();
    // It answers when the image is open.
    writeln!(stdin, "length").unwrap();
    let mut lines = BufReader::new(qemu.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("1 MiB")), "{args:?}");
    let file = File::open(bench.path("image")).unwrap();
    let got = (locks::is_used(&file).unwrap(), locks::is_written(&file).unwrap());
    drop(stdin);
    qemu.wait().unwrap();
    assert_eq!((locks::is_used(&file), locks::is_written(&file)), (Ok(false), Ok(false)), "gone with QEMU");
    got
}

#[test]
fn of_a_qemu_that_reads_and_of_one_that_writes() {
    let bench = Bench::new();
    bench.qemu_img("create -q -f qcow2 image 1M");
    bench.qemu_img("create -q -f qcow2 -b image -F qcow2 overlay");
    assert_eq!(seen(&bench, &["-r", "image"]), (true, false));
    assert_eq!(seen(&bench, &["overlay"]), (true, false));
    assert_eq!(seen(&bench, &["image"]), (true, true));
}

#[test]
fn a_file_system_without_locks() {
    assert_eq!(
        locks::no_locks(nix::errno::Errno::ENOLCK).to_string(),
        "qemu: the VM image's locks: No record locks available (QEMU opens no image on a file system without locks)"
    );
}
