//! The scripts that package a VM image and extract it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{LABEL, Podman, directory, run, source, text, unique};

/// Runs a script of util/: whether it succeeded, and its stderr.
fn script(name: &str, args: &[&str]) -> (bool, String) {
    let output =
        Command::new(source("util").join(name)).args(args).stdin(Stdio::null()).output().expect("a script of util/");
    (output.status.success(), text(&output.stderr))
}

#[track_caller]
fn works(name: &str, args: &[&str]) {
    let (success, message) = script(name, args);
    assert!(success, "{name} {args:?}: {message}");
}

/// The script must fail, and its last line must be `qemu:` and `why`.
#[track_caller]
fn refuses(name: &str, args: &[&str], why: &str) {
    let (success, message) = script(name, args);
    assert!(!success, "{name} {args:?} succeeded");
    assert_eq!(message.lines().last(), Some(format!("qemu: {why}").as_str()), "{name} {args:?}: {message}");
}

const PACKAGE: &str = "package-vm-image.sh";
const EXTRACT: &str = "extract-vm-image.sh";

/// Container images, removed when this is dropped.
struct Tags(Vec<String>);

impl Tags {
    fn add(&mut self) -> String {
        self.0.push(format!("localhost/{}:x", unique(LABEL)));
        self.0.last().unwrap().clone()
    }
}

impl Drop for Tags {
    fn drop(&mut self) {
        for tag in &self.0 {
            Podman::Rootful.output(&["rmi", "-f", tag]);
        }
    }
}

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn image_id(tag: &str) -> String {
    Podman::Rootful.ok(&["image", "inspect", "--format", "{{.Id}}", tag])
}

#[test]
fn extracted_image_equals_the_packaged_one() {
    let (mut tags, dir) = (Tags(Vec::new()), directory());
    let at = |name: &str| dir.at(name);
    run("qemu-img", &["create", "-q", "-f", "qcow2", &at("a b.qcow2"), "1G"]);
    fs::write(at("raw.img"), [1; 4096]).unwrap();
    fs::File::options().append(true).open(at("raw.img")).unwrap().set_len(64 << 20).unwrap();
    for (image, inside) in [("a b.qcow2", "disk/disk.qcow2"), ("raw.img", "disk/disk.raw")] {
        let tag = tags.add();
        let before = names(dir.path());
        works(PACKAGE, &[&at(image), &tag]);
        assert_eq!(names(dir.path()), before, "something was left beside the image");
        let container = Podman::Rootful.ok(&["create", "--label", LABEL, &tag, "x"]);
        let list = run("sh", &["-c", &format!("podman export {container} | tar -t | grep -v /$")]);
        Podman::Rootful.ok(&["rm", &container]);
        assert_eq!(list, inside, "the container image contains other files");
        works(EXTRACT, &[&tag, &at("out")]);
        assert!(run("cmp", &[&at(image), &at("out")]).is_empty());

        // Existing files and images are overwritten only with --replace.
        fs::write(at("out"), "mine").unwrap();
        refuses(EXTRACT, &[&tag, &at("out")], &format!("{}: exists already (--replace replaces it)", at("out")));
        assert_eq!(fs::read(at("out")).unwrap(), b"mine");
        works(EXTRACT, &["--replace", &tag, &at("out")]);
        assert!(run("cmp", &[&at(image), &at("out")]).is_empty());
        let id = image_id(&tag);
        refuses(PACKAGE, &[&at("out"), &tag], &format!("{tag}: exists already (--replace replaces it)"));
        assert_eq!(image_id(&tag), id);
        fs::OpenOptions::new()
            .append(true)
            .open(at("out"))
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"x"))
            .unwrap();
        works(PACKAGE, &["--replace", &at("out"), &tag]);
        assert_ne!(image_id(&tag), id);
        fs::remove_file(at("out")).unwrap();
    }
    // A sparse file stays sparse.
    let tag = tags.add();
    works(PACKAGE, &[&at("raw.img"), &tag]);
    works(EXTRACT, &[&tag, &at("sparse")]);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(at("sparse")).unwrap());
    assert!(blocks * 512 < 8 << 20, "{blocks} blocks");
}

#[test]
fn unusable_images_are_not_packaged() {
    let (mut tags, dir) = (Tags(Vec::new()), directory());
    let at = |name: &str| dir.at(name);
    let put = |name: &str, bytes: &[u8]| fs::write(at(name), bytes).unwrap();
    let format = |name: &str| {
        let hint = "convert other formats with `qemu-img convert -O qcow2` first";
        format!("the format is {name}, not qcow2 or raw ({hint})")
    };
    put("empty", b"");
    put("old.qcow", b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\0\0");
    run("qemu-img", &["create", "-q", "-f", "raw", &at("base"), "64K"]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", &at("backed")]);
    run("qemu-img", &["convert", "-O", "qcow2", "/bin/sh", &at("cut")]);
    let len = fs::metadata(at("cut")).unwrap().len();
    fs::File::options().write(true).open(at("cut")).unwrap().set_len(len - (64 << 10)).unwrap();
    put("x.vmdk", b"KDMV\0\0\0\0");
    put("x.vhdx", b"vhdxfile");
    put("x.vhd", b"conectix");
    put("x.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    put("x.xz", b"\xfd7zXZ\0\0\0");
    put("x.vdi", &[vec![0; 64], b"\x7f\x10\xda\xbe".to_vec()].concat());
    nix::unistd::mkfifo(at("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    let compressed = |name: &str| format!("compressed with {name}, not a disk image (unpack it first)");
    let backed = "the qcow2 image has a backing file, \"base\" \
                  (make one file of it with `qemu-img convert -O qcow2` first)";
    let cases = [
        ("nothing", "No such file or directory".to_string()),
        ("", "a directory, not a VM image".to_string()),
        ("fifo", "a fifo, not a VM image".to_string()),
        ("dangling", "No such file or directory".to_string()),
        ("empty", "an empty file, not a VM image".to_string()),
        ("old.qcow", format("qcow version 1")),
        ("backed", backed.to_string()),
        ("x.vmdk", format("VMDK")),
        ("x.vhdx", format("VHDX")),
        ("x.vhd", format("VHD")),
        ("x.vdi", format("VDI")),
        ("x.gz", compressed("gzip")),
        ("x.xz", compressed("xz")),
    ];
    let before = names(dir.path());
    for (name, why) in cases {
        let tag = tags.add();
        let line = format!("{}: {why}", at(name));
        refuses(PACKAGE, &[&at(name), &tag], &line);
        assert_eq!(check(&[&at(name)]), Err(format!("qemu: {line}\n")));
        assert!(!Podman::Rootful.output(&["image", "exists", &tag]).status.success(), "{name}");
    }
    assert_eq!(names(dir.path()), before);
    let line = check(&["--json", &at("cut")]).unwrap_err();
    assert!(line.starts_with(&format!("qemu: {}: the qcow2 image is cut off: ", at("cut"))), "{line}");
    let usage = "(crun-qemu image pack [--replace] [--format qcow2|raw] FILE TAG)";
    refuses(PACKAGE, &[&at("empty")], &format!("image pack: needs FILE and TAG {usage}"));
    refuses(PACKAGE, &["--force", &at("empty"), "x"], &format!("image pack: --force: unknown option {usage}"));
}

/// What `crun-qemu image check` prints, on stdout, or on stderr where it fails.
fn check(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_crun-qemu")).args(["image", "check"]).args(args).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(1) if output.stdout.is_empty() => Err(text(&output.stderr)),
        status => panic!("{status:?} {output:?}"),
    }
}

#[test]
fn an_image_is_checked() {
    let dir = directory();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for (format, size) in [("qcow2", "1G"), ("raw", "64M")] {
        run("qemu-img", &["create", "-q", "-f", format, &at(format), size]);
    }
    let firmware = "firmware uefi\n";
    let line = |name: &str, size: u64| Ok(format!("{}: {name}, virtual size {size} bytes, {firmware}", at(name)));
    assert_eq!(check(&[&at("qcow2")]), line("qcow2", 1 << 30));
    assert_eq!(check(&[&at("raw")]), line("raw", 64 << 20));
    let json = "{\"format\":\"qcow2\",\"virtual_size\":1073741824,\"firmware\":\"uefi\"}\n";
    assert_eq!(check(&["--json", &at("qcow2")]), Ok(json.into()));
    let other = check(&["--format", "qcow2", &at("raw")]);
    assert_eq!(other, Err(format!("qemu: {}: not a qcow2 image (`--format raw` if it is a raw disk)\n", at("raw"))));
}

/// A name is never used for anything but the message.
#[test]
fn a_hostile_name_is_only_shown() {
    let (mut tags, dir, root) = (Tags(Vec::new()), directory(), directory());
    let (tag, out) = (tags.add(), dir.path().join("out").to_str().unwrap().to_string());
    fs::write(root.path().join("-\nqemu: x\u{1b}[2J"), "disk").unwrap();
    run("sh", &["-c", &format!("tar -C {} -c . | podman import -q - {tag}", root.path().display())]);
    let (success, message) = script(EXTRACT, &[&tag, &out]);
    assert!(success, "{message}");
    assert_eq!(message, format!("{out}: /-\\nqemu: x\\u{{1b}}[2J of {tag}\n"));
    assert_eq!(fs::read(&out).unwrap(), b"disk");
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn images_without_exactly_one_file_are_not_extracted() {
    let (mut tags, dir) = (Tags(Vec::new()), directory());
    let out = dir.path().join("out").to_str().unwrap().to_string();
    let rule = "(the VM image must be the only regular file in / or in /disk/)";
    let two = "more than one file where the VM image is looked for";
    let other = |path: &str, kind: &str| format!("{path}: no VM image: this is {kind}, and there is no regular file");
    let cases = [
        ("mkdir disk etc; echo x > etc/passwd", "TAG: no VM image in this root".to_string()),
        ("mkdir disk; echo x > disk/b; echo x > a", format!("/a and /disk/b: {two}")),
        (
            "mkdir disk; echo x > disk/b; echo x > \"disk/$(printf 'a\\nqemu: x')\"",
            format!("/disk/a\\nqemu: x and /disk/b: {two}"),
        ),
        ("mkdir disk; ln -s /etc/shadow disk/x", other("/disk/x", "a symlink")),
        ("ln -s /etc disk", "/disk: a symlink, not a directory".to_string()),
        ("mkfifo x", other("/x", "a fifo")),
    ];
    for (make, why) in cases {
        let (root, tag) = (directory(), tags.add());
        let make = format!("cd {} && {make} && tar -c . | podman import -q - {tag}", root.path().display());
        run("sh", &["-c", &make]);
        refuses(EXTRACT, &[&tag, &out], &format!("{} {rule}", why.replace("TAG", &tag)));
        assert_eq!(names(dir.path()), [""; 0], "{why}");
        assert!(!Podman::Rootful.ok(&["image", "mount"]).contains(&tag), "{why}");
    }
    let absent = "localhost/crun-qemu-test-absent";
    refuses(EXTRACT, &[absent, &out], &format!("{absent}: no such container image here"));
    let link = dir.at("link");
    symlink("out", &link).unwrap();
    let nowhere: PathBuf = dir.join("no/where");
    for (to, why) in [
        (link.as_str(), "is a symbolic link"),
        (dir.path().to_str().unwrap(), "is a directory"),
        ("/dev/null", "not a regular file"),
    ] {
        refuses(EXTRACT, &["--replace", absent, to], &format!("{to}: {why}"));
    }
    let parent = nowhere.parent().unwrap().display();
    refuses(EXTRACT, &[absent, nowhere.to_str().unwrap()], &format!("{parent}: no such directory"));
}
