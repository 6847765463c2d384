//! Roots without a usable VM image.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{run, text};

/// A root without a usable image: what creates it, and the error line, with `ROOT` for its path and `SOLE` for the
/// hint.
pub struct BadRoot {
    pub name: &'static str,
    pub make: fn(&Path),
    pub line: &'static str,
}

pub const ROOTS: &[BadRoot] = &[
    BadRoot { name: "no file", make: |_| (), line: "ROOT: no VM image in this root SOLE" },
    BadRoot {
        name: "two files",
        make: |root| ["b.img", "a.img"].iter().for_each(|name| write_image(&root.join(name))),
        line: "/a.img and /b.img: more than one file where the VM image is looked for SOLE",
    },
    BadRoot {
        name: "a file in / and one in /disk",
        make: |root| ["a.img", "disk/b.img"].iter().for_each(|name| write_image(&root.join(name))),
        line: "/a.img and /disk/b.img: more than one file where the VM image is looked for SOLE",
    },
    BadRoot {
        name: "an absolute symlink",
        make: |root| link("/etc/shadow", &root.join("disk.qcow2")),
        line: "/disk.qcow2: no VM image: this is a symlink, and there is no regular file SOLE",
    },
    BadRoot {
        name: "a relative symlink",
        make: |root| {
            write_image(&root.join("etc/real.img"));
            link("../etc/real.img", &root.join("disk/disk.img"));
        },
        line: "/disk/disk.img: no VM image: this is a symlink, and there is no regular file SOLE",
    },
    BadRoot {
        name: "a symlink with ..",
        make: |root| link("../../../../../../etc/shadow", &root.join("disk/disk.img")),
        line: "/disk/disk.img: no VM image: this is a symlink, and there is no regular file SOLE",
    },
    BadRoot {
        name: "/disk as a symlink",
        make: |root| link("/etc", &root.join("disk")),
        line: "/disk: a symlink, not a directory SOLE",
    },
    BadRoot {
        name: "a directory",
        make: |root| fs::create_dir_all(root.join("disk/disk.qcow2")).unwrap(),
        line: "/disk/disk.qcow2: no VM image: this is a directory, and there is no regular file SOLE",
    },
    BadRoot {
        name: "a fifo",
        make: |root| drop(run("mkfifo", &[root.join("disk.img").to_str().unwrap()])),
        line: "/disk.img: no VM image: this is a fifo, and there is no regular file SOLE",
    },
    BadRoot {
        name: "a device",
        make: |root| drop(run("mknod", &[root.join("disk.img").to_str().unwrap(), "c", "1", "5"])),
        line: "/disk.img: no VM image: this is a character device, and there is no regular file SOLE",
    },
    BadRoot {
        name: "an empty file",
        make: |root| fs::write(root.join("disk.img"), "").unwrap(),
        line: "/disk.img: an empty file, not a VM image",
    },
    BadRoot {
        name: "a backing file",
        make: |root| {
            create(&root.join("disk.qcow2"), &["-b", "/etc/shadow", "-F", "raw", "-u"]);
        },
        line: r#"/disk.qcow2: the qcow2 image has a backing file, "/etc/shadow" (make one file of it with `qemu-img convert -O qcow2` first)"#,
    },
    BadRoot {
        name: "an external data file",
        make: |root| {
            fs::create_dir(root.join("etc")).unwrap();
            let data = format!("data_file={}", root.join("etc/data").display());
            create(&root.join("disk.qcow2"), &["-o", &data]);
        },
        line: "/disk.qcow2: the qcow2 image keeps its data in another file (make one file of it with `qemu-img convert -O qcow2` first)",
    },
    BadRoot {
        name: "encrypted",
        make: |root| {
            let options = [
                "--object",
                "secret,id=s,data=x",
                "-o",
                "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            ];
            // qemu-img measures its hash rate and gives up on a busy host.
            let disk = root.join("disk.qcow2");
            let made = (0..40).any(|_| qemu_img_create(&disk, &options).status().unwrap().success());
            assert!(made, "qemu-img did not create an encrypted image");
        },
        line: "/disk.qcow2: the qcow2 image is encrypted (decrypt it with `qemu-img convert -O qcow2` first)",
    },
    BadRoot {
        name: "truncated",
        make: |root| {
            let disk = root.join("disk.qcow2");
            create(&disk, &["-o", "preallocation=full"]);
            let file = File::options().write(true).open(disk).unwrap();
            file.set_len(1 << 20).unwrap();
        },
        line: "/disk.qcow2: the qcow2 image is cut off: data up to byte 4456448 and beyond, 1048576 in the file \
               (fetch it again, or repair it with `qemu-img check -r all`)",
    },
    BadRoot {
        name: "an unknown version",
        make: |root| {
            let disk = root.join("disk.qcow2");
            create(&disk, &[]);
            File::options().write(true).open(disk).unwrap().write_all_at(&4u32.to_be_bytes(), 4).unwrap();
        },
        line: "/disk.qcow2: version 4 of qcow2 is not known: 2 and 3 are",
    },
    BadRoot {
        name: "random bytes",
        make: |root| {
            let mut bytes = [0; 4096];
            std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
            bytes[0] = 0x11;
            fs::write(root.join("disk.qcow2"), bytes).unwrap();
        },
        line: "/disk.qcow2: named .qcow2, but the content is not: damaged, or another format \
               (`--format raw` if it is a raw disk)",
    },
];

/// Writes a file that is not empty, which suffices for a raw disk.
pub fn write_image(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [1; 4096]).unwrap();
}

fn link(target: &str, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn create(path: &Path, options: &[&str]) {
    let output = qemu_img_create(path, options).output().unwrap();
    assert!(output.status.success(), "qemu-img: {}", text(&output.stderr));
}

fn qemu_img_create(path: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).args(options).arg(path).arg("4M");
    command
}
