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

/// The script must fail, and its last line must be its name and `why`.
#[track_caller]
fn refuses(name: &str, args: &[&str], why: &str) {
    let (success, message) = script(name, args);
    assert!(!success, "{name} {args:?} succeeded");
    assert_eq!(message.lines().last(), Some(format!("{name}: {why}").as_str()), "{name} {args:?}: {message}");
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
    let convert = "only qcow2 and raw can be run (qemu-img convert -O qcow2 makes one)";
    put("empty", b"");
    put("old.qcow", b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\0\0");
    put("backed", b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\x01\0");
    put("x.vmdk", b"KDMV\0\0\0\0");
    put("x.vhdx", b"vhdxfile");
    put("x.vhd", b"conectix");
    put("x.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    put("x.xz", b"\xfd7zXZ\0\0\0");
    put("x.vdi", &[vec![0; 64], b"\x7f\x10\xda\xbe".to_vec()].concat());
    nix::unistd::mkfifo(at("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    let backed = "needs another file, its backing file (qemu-img convert -O qcow2 makes a whole one)".to_string();
    let cases = [
        ("nothing", "no such file".to_string()),
        ("", "not a regular file".to_string()),
        ("fifo", "not a regular file".to_string()),
        ("dangling", "not a regular file".to_string()),
        ("empty", "is empty".to_string()),
        ("old.qcow", format!("qcow of an unknown version ({convert})")),
        ("backed", backed),
        ("x.vmdk", format!("is VMDK; {convert}")),
        ("x.vhdx", format!("is VHDX; {convert}")),
        ("x.vhd", format!("is VHD; {convert}")),
        ("x.vdi", format!("is VDI; {convert}")),
        ("x.gz", "is compressed: unpack it first".to_string()),
        ("x.xz", "is compressed: unpack it first".to_string()),
    ];
    let before = names(dir.path());
    for (name, why) in cases {
        let tag = tags.add();
        refuses(PACKAGE, &[&at(name), &tag], &format!("{}: {why}", at(name)));
        assert!(!Podman::Rootful.output(&["image", "exists", &tag]).status.success(), "{name}");
    }
    assert_eq!(names(dir.path()), before);
    refuses(PACKAGE, &[&at("empty")], "expected two arguments: IMAGE TAG (see --help)");
    refuses(PACKAGE, &["--force", &at("empty"), "x"], "--force: unknown option");
}

#[test]
fn images_without_exactly_one_file_are_not_extracted() {
    let (mut tags, dir) = (Tags(Vec::new()), directory());
    let out = dir.at("out");
    let cases = [
        ("mkdir disk etc; echo x > etc/passwd", "no file in / or /disk/"),
        ("mkdir disk; echo x > disk/b; echo x > a", "more than one file in / and /disk/: "),
        ("mkdir disk; ln -s /etc/shadow disk/x", "/disk/x is a symbolic link, not a file"),
        ("mkfifo x", "/x is not a regular file"),
    ];
    for (make, why) in cases {
        let (root, tag) = (directory(), tags.add());
        let make = format!("cd {} && {make} && tar -c . | podman import -q - {tag}", root.path().display());
        run("sh", &["-c", &make]);
        let (success, message) = script(EXTRACT, &[&tag, &out]);
        let line = message.lines().last().unwrap_or_default();
        assert!(!success && line.starts_with(&format!("{EXTRACT}: {tag}: {why}")), "{message}");
        assert_eq!(names(dir.path()), [""; 0], "{why}");
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
