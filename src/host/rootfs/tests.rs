use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::mknod;
use tempfile::TempDir;

use super::*;

/// What to put into a root.
#[derive(Clone, Copy)]
enum Put {
    Dir(&'static str),
    File(&'static str),
    Empty(&'static str),
    Link(&'static str, &'static str),
    Fifo(&'static str),
    Socket(&'static str),
    Device(&'static str),
}
use Put::*;

fn root(puts: &[Put]) -> (TempDir, Root) {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for put in puts {
        match *put {
            Dir(name) => std::fs::create_dir_all(at(name)).unwrap(),
            File(name) => std::fs::write(at(name), name).unwrap(),
            Empty(name) => std::fs::write(at(name), "").unwrap(),
            Link(name, target) => symlink(target, at(name)).unwrap(),
            Fifo(name) => nix::unistd::mkfifo(&at(name), Mode::S_IRWXU).unwrap(),
            Socket(name) => drop(UnixListener::bind(at(name)).unwrap()),
            // The one device that needs no privilege: overlayfs' whiteout.
            Device(name) => mknod(&at(name), SFlag::S_IFCHR, Mode::S_IRWXU, 0).unwrap(),
        }
    }
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn the_sole_regular_file_is_found() {
    let system = [Dir("usr"), Dir("etc"), File("etc/passwd"), Link("bin", "usr/bin"), Link("lib64", "usr/lib64")];
    let cases: [(&[Put], &str); 9] = [
        (&[File("x.img")], "/x.img"),
        (&[File("disk")], "/disk"),
        (&[Dir("disk"), File("disk/x.qcow2")], "/disk/x.qcow2"),
        (&[Dir("disk"), File("x")], "/x"),
        (&[Dir("disk/lost+found"), File("disk/lost+found/a"), File("disk/x")], "/disk/x"),
        (&[Empty(".dockerenv"), File("x")], "/x"),
        (&[Dir(PRIVATE), File(".crun-qemu/overlay.qcow2"), Dir("disk"), File("disk/x")], "/disk/x"),
        (&[File("x"), Link("y", "x"), Fifo("z"), Socket("s"), Device("c")], "/x"),
        (&[Dir("disk"), File("disk/x y\n\"ü")], "/disk/x y\n\"ü"),
    ];
    for (puts, want) in cases {
        let (_dir, root) = root(&[puts, &system].concat());
        let mut found = root.find_image().unwrap();
        assert_eq!(found.path, Path::new(want));
        let mut content = String::new();
        found.file.read_to_string(&mut content).unwrap();
        assert_eq!(content, want.trim_start_matches('/'));
        let again = root.open_recorded(&found.path).unwrap();
        assert_eq!(again.metadata().unwrap().ino(), found.file.metadata().unwrap().ino());
    }
}

#[test]
fn anything_else_is_refused_by_name() {
    const RULE: &str = "(the VM image must be the only regular file in / or in /disk/)";
    const TWO: &str = "more than one file where the VM image is looked for";
    let cases: [(&[Put], String); 18] = [
        (&[], format!("ROOT: no VM image in this root {RULE}")),
        (&[Dir("disk"), Dir("usr"), Link("lib", "usr/lib")], format!("ROOT: no VM image in this root {RULE}")),
        (&[Empty(".dockerenv")], format!("ROOT: no VM image in this root {RULE}")),
        (&[File("b"), File("c"), File("a")], format!("/a and /b: {TWO} {RULE}")),
        (&[Dir("disk"), File("disk/b"), File("disk/a")], format!("/disk/a and /disk/b: {TWO} {RULE}")),
        (&[Dir("disk"), File("disk/b"), File("x")], format!("/disk/b and /x: {TWO} {RULE}")),
        (&[File("a"), Empty("b")], format!("/a and /b: {TWO} {RULE}")),
        (&[File(".dockerenv"), File("b")], format!("/.dockerenv and /b: {TWO} {RULE}")),
        (&[Link("x.qcow2", "/etc/passwd")], other("/x.qcow2", "a symlink")),
        (&[Link("x.qcow2", "../../../etc/passwd")], other("/x.qcow2", "a symlink")),
        (&[Dir("disk"), Dir("a"), File("a/b"), Link("disk/x", "../a/b")], other("/disk/x", "a symlink")),
        (&[Dir("disk/x.qcow2")], other("/disk/x.qcow2", "a directory")),
        (&[Dir("disk"), Fifo("disk/x")], other("/disk/x", "a fifo")),
        (&[Fifo("x")], other("/x", "a fifo")),
        (&[Socket("x")], other("/x", "a socket")),
        (&[Device("x")], other("/x", "a character device")),
        (&[Dir("disk"), Empty("disk/x")], "/disk/x: an empty file, not a VM image".into()),
        (&[Dir("real"), File("real/x"), Link("disk", "real")], format!("/disk: a symlink, not a directory {RULE}")),
    ];
    fn other(path: &str, kind: &str) -> String {
        format!("{path}: no VM image: this is {kind}, and there is no regular file {RULE}")
    }
    for (puts, want) in cases {
        let (dir, root) = root(puts);
        let want = format!("qemu: {}", want.replace("ROOT", dir.path().to_str().unwrap()));
        assert_eq!(root.find_image().map(|f| f.path).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_name_that_is_not_utf8_is_refused() {
    let (dir, root) = root(&[]);
    std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"x\xff")), "x").unwrap();
    let message = root.find_image().map(|f| f.path).unwrap_err().to_string();
    assert_eq!(message, "qemu: /x\u{fffd}: the name of the VM image is not UTF-8 (rename it)");
}

#[test]
fn a_recorded_path_leads_nowhere_else() {
    let puts = [
        Dir("disk"),
        File("disk/x"),
        Dir("a"),
        File("a/b"),
        Link("l", "disk/x"),
        Link("disk/l", "/etc/passwd"),
        Fifo("p"),
        Empty("e"),
        Dir("disk/d"),
        Device("c"),
    ];
    let (_dir, root) = root(&puts);
    let place = "not a file directly in / or /disk/";
    let cases = [
        ("/gone", "No such file or directory"),
        ("/disk/d", "a directory, not a VM image"),
        ("/p", "a fifo, not a VM image"),
        ("/e", "an empty file, not a VM image"),
        ("/l", "a symlink, not a VM image (symlinks in the image's root are not followed)"),
        ("/disk/l", "a symlink, not a VM image (symlinks in the image's root are not followed)"),
        ("/a/b", place),
        ("/disk/../a", place),
        ("/..", place),
        ("/", place),
        ("", place),
        ("disk/x", place),
    ];
    for (path, why) in cases {
        let message = root.open_recorded(Path::new(path)).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message, format!("qemu: {path}: {why}"));
    }
    assert!(root.open_recorded(Path::new("/c")).is_err(), "a device");
}

#[test]
fn a_parent_that_became_a_symlink_is_not_followed() {
    let (dir, root) = root(&[Dir("disk"), File("disk/x"), Dir("other"), File("other/x")]);
    let path = root.find_image().unwrap().path;
    std::fs::rename(dir.path().join("disk"), dir.path().join("old")).unwrap();
    symlink("other", dir.path().join("disk")).unwrap();
    assert!(root.open_recorded(&path).is_err());
}

#[test]
fn files_block_and_are_closed_on_exec() {
    let (_dir, root) = root(&[File("x")]);
    let read = root.find_image().unwrap().file;
    let flags = OFlag::from_bits_truncate(fcntl(&read, FcntlArg::F_GETFL).unwrap());
    assert_eq!(flags & (OFlag::O_ACCMODE | OFlag::O_NONBLOCK), OFlag::O_RDONLY);
    assert_eq!(fcntl(&read, FcntlArg::F_GETFD).unwrap(), 1, "fd {}", read.as_raw_fd());
    assert!(read.write_at(b"no", 0).is_err());
}

#[test]
fn a_root_that_is_none() {
    for (path, why) in [("/nowhere/at/all", "No such file or directory"), ("/etc/passwd", "Not a directory")] {
        let message = Root::open(Path::new(path)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("qemu: {path}: ")) && message.contains(why), "{message}");
    }
}
