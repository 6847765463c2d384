//! Images that try to reach the host: each try comes to nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::bad_input::{nothing_left, podman};
use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, guest, run, text, unique};

/// A container image, removed again.
pub struct Image(pub String);

impl Drop for Image {
    fn drop(&mut self) {
        Podman::Rootful.output(&["rmi", "-f", &self.0]);
    }
}

/// Builds an image from what is in `context`, which is its root, with these lines added.
pub fn build(context: &Path, lines: &str, options: &[&str]) -> Image {
    let tag = format!("localhost/{}", unique(LABEL));
    let recipe = directory();
    let file = recipe.path().join("Containerfile");
    fs::write(&file, format!("FROM scratch\nLABEL {LABEL}=1\nCOPY . /\n{lines}\n")).unwrap();
    // No cache: it takes another build's image for this one's, annotations and all, if only what is copied is the same.
    let mut args = vec!["build", "-q", "--layers=false", "-t", &tag, "-f", file.to_str().unwrap()];
    args.extend(options);
    args.push(context.to_str().unwrap());
    Podman::Rootful.ok(&args);
    Image(tag)
}

/// An image of just what is in `root`, devices and links as they are.
fn import(root: &Path) -> Image {
    let tag = format!("localhost/{}", unique(LABEL));
    let tar = directory();
    let file = tar.path().join("root.tar");
    run("tar", &["-C", root.to_str().unwrap(), "-cf", file.to_str().unwrap(), "."]);
    Podman::Rootful.ok(&["import", "-q", "--change", &format!("LABEL={LABEL}=1"), file.to_str().unwrap(), &tag]);
    Image(tag)
}

/// A root with the tiny guest under `/disk/`.
pub fn with_tiny() -> TempDir {
    let dir = directory();
    fs::create_dir(dir.path().join("disk")).unwrap();
    fs::copy(guest("tiny"), dir.path().join("disk/disk.qcow2")).unwrap();
    dir
}

/// Our line for an image that is refused, without what podman puts in front. The container's own root is called ROOT.
pub fn line(form: Form, image: &Image, options: &[&str]) -> String {
    let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.0], options };
    let vm = Vm { podman: run.podman, name: unique(LABEL) };
    let line = refusal(&vm, &podman(&run, &vm.name, None));
    let root = vm.inspect("{{.GraphDriver.Data.UpperDir}}").replace("/diff", "/merged");
    line.replace(&root, "ROOT")
}

/// Our line for a VM that was refused, of which nothing may be left.
#[track_caller]
pub fn refusal(vm: &Vm, output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{stderr}");
    nothing_left(vm);
    stderr.trim_end().rsplit_once(": qemu: ").map(|(_, rest)| rest.to_owned()).expect(&stderr)
}

pub const FORMS: [Form; 2] = [Form::BuildTree, Form::Plugin];

#[test]
fn what_the_configuration_says_of_the_process() {
    let lines = r#"
        LABEL run.oci.handler=nothing run.oci.qemu.bogus=1
        ENV LD_PRELOAD=/crun-qemu/image LD_LIBRARY_PATH=/disk PATH=/disk:/usr/local/bin LIBVIRT_DEFAULT_URI=test:///default HOME=/disk
        WORKDIR /etc
        USER 1000:1000
        STOPSIGNAL SIGPWR
        ENTRYPOINT ["/bin/sh", "-c", "echo HOSTILE; sleep 1000"]
        CMD ["/bin/sh", "-c", "echo HOSTILE"]"#;
    let image = build(with_tiny().path(), lines, &[]);
    for form in FORMS {
        let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.0], options: &[] };
        let vm = run.detached();
        let said = vm.wait_for("TINY READY", 1);
        assert!(!said.contains("HOSTILE") && !said.contains("LD_PRELOAD"), "{said}");
        let process = |name: &str| text(&fs::read(format!("/proc/{}/{name}", vm.pid())).unwrap());
        assert!(process("status").contains("\nUid:\t0\t0\t0\t0\n"));
        assert_eq!(fs::read_link(format!("/proc/{}/cwd", vm.pid())).unwrap(), Path::new("/"));
        // crun adds a HOME where there is none: that of root in our own /etc/passwd.
        assert_eq!(process("environ").replace("HOME=/run\0", ""), "PATH=/usr/sbin:/usr/bin:/sbin:/bin\0");
        let env = vm.podman.ok(&["exec", "--user", "0", &vm.name, "-", "env"]);
        assert!(!env.contains("LD_") && !env.contains("/disk"), "{env}");
        assert_eq!(vm.stop(), 0);
    }
}

#[test]
fn annotations_of_the_manifest() {
    let annotation = ["--annotation", "run.oci.qemu.bogus=/etc/shadow"];
    let image = build(with_tiny().path(), "", &annotation);
    for form in FORMS {
        let told = line(form, &image, &[]);
        assert_eq!(told, "annotation run.oci.qemu.bogus: unknown (crun-qemu options lists all)");
    }
}

/// A library that says that it runs, and leaves a file wherever it may.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <unistd.h>
__attribute__ ((constructor)) static void
hostile (void)
{
  static const char *const files[] = { MARKER, "/run/HOSTILE", "/tmp/HOSTILE" };
  for (unsigned i = 0; i < 3; i++)
    close (open (files[i], O_CREAT | O_WRONLY, 0600));
  if (write (2, "HOSTILE\n", 8) < 0)
    _exit (1);
}
"#;

#[test]
fn a_disk_that_is_a_library() {
    let (context, host) = (directory(), directory());
    let (marker, source) = (host.path().join("HOSTILE"), host.path().join("x.c"));
    let disk = context.path().join("disk/disk.img");
    fs::create_dir(context.path().join("disk")).unwrap();
    fs::write(&source, LIBRARY.replace("MARKER", &format!("{:?}", marker.to_str().unwrap()))).unwrap();
    run("cc", &["-shared", "-fPIC", "-o", disk.to_str().unwrap(), source.to_str().unwrap()]);
    // It does what it is for, where it is loaded.
    run("env", &[&format!("LD_PRELOAD={}", disk.display()), "true"]);
    for trace in [&marker, Path::new("/run/HOSTILE"), Path::new("/tmp/HOSTILE")] {
        fs::remove_file(trace).expect("the library does not work");
    }
    let lines = "ENV LD_PRELOAD=\"/disk/disk.img /crun-qemu/image\" LD_AUDIT=/crun-qemu/image";
    let image = build(context.path(), lines, &[]);
    for form in FORMS {
        let options = ["--firmware", "bios"];
        let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.0], options: &options };
        let vm = run.detached();
        vm.wait_for("No bootable device", 1);
        let inside = vm.exec_ok(&["-", "ls", "/run", "/tmp"]);
        // Even who asks for it does not get it: the disk cannot be executed.
        let asked = vm.exec(&["-", "env", "LD_PRELOAD=/crun-qemu/image", "true"]);
        assert!(text(&asked.stderr).contains("cannot be preloaded"), "{}", text(&asked.stderr));
        let said = inside + &vm.logs();
        assert!(!said.contains("HOSTILE"), "{said}");
        for trace in [&marker, Path::new("/run/HOSTILE"), Path::new("/tmp/HOSTILE")] {
            assert!(!trace.exists(), "{}", trace.display());
        }
    }
}

/// What an image has mounted reaches the guest or nobody; the processes around the VM keep their own.
#[test]
fn volumes_over_what_is_ours() {
    let context = with_tiny();
    let volume = |path: &str| {
        let dir = context.path().join(&path[1..]);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hostile"), "x").unwrap();
        build(context.path(), &format!("VOLUME {path}"), &[])
    };
    for path in ["/proc", "/dev/net", "/run"] {
        let told = line(Form::BuildTree, &volume(path), &[]);
        assert_eq!(told, format!("mount {path}: the guest has its own there"));
    }
    for (path, form) in ["/usr", "/etc", "/crun-qemu"].iter().zip(FORMS.iter().cycle()) {
        let image = volume(path);
        let run = Run { podman: Podman::Rootful, form: *form, podman_options: &[], what: &[&image.0], options: &[] };
        let vm = run.detached();
        vm.wait_for("TINY READY", 1);
        let found = vm.exec(&["-", "ls", &format!("{path}/hostile")]);
        assert_ne!(found.status.code(), Some(0), "{path} ({form:?})");
        assert_eq!(vm.stop(), 0);
    }
}

/// What an image puts where our own directory in a container's layer is, and our line.
type Forgery = (&'static str, fn(&Path), &'static str);

const FORGERIES: &[Forgery] = &[
    ("a link", |dir| symlink("/etc", dir).unwrap(), "ROOT/.crun-qemu: not a directory"),
    ("a file", |dir| fs::write(dir, "x").unwrap(), "ROOT/.crun-qemu: not a directory"),
    (
        "an overlay over another file",
        |dir| overlay(dir, &["-b", "/etc/shadow", "-F", "raw", "-u"]),
        "ROOT/.crun-qemu/overlay.qcow2: not an overlay over /crun-qemu/image (qcow2)",
    ),
    (
        "an overlay that declares another format",
        |dir| overlay(dir, &["-b", "/crun-qemu/image", "-F", "raw", "-u"]),
        "ROOT/.crun-qemu/overlay.qcow2: not an overlay over /crun-qemu/image (qcow2)",
    ),
    (
        "an overlay with its data elsewhere",
        |dir| {
            overlay(dir, &["-o", "data_file=/var/tmp/crun-qemu-test.data"]);
            fs::remove_file("/var/tmp/crun-qemu-test.data").unwrap();
        },
        "ROOT/.crun-qemu/overlay.qcow2: the qcow2 image keeps its data in another file \
         (make one file of it with `qemu-img convert -O qcow2` first)",
    ),
    (
        "a link for an overlay",
        |dir| symlink("/etc/shadow", made(dir).join("overlay.qcow2")).unwrap(),
        "ROOT/.crun-qemu/overlay.qcow2: not a regular file",
    ),
    (
        "a device for an overlay",
        |dir| drop(run("mknod", &[made(dir).join("overlay.qcow2").to_str().unwrap(), "c", "1", "5"])),
        "ROOT/.crun-qemu/overlay.qcow2: not a regular file",
    ),
    ("a record of a host's file", |dir| record(dir, "/etc/shadow"), "/etc/shadow: not a file directly in / or /disk/"),
    (
        "a record that climbs",
        |dir| record(dir, "/../../../../etc/shadow"),
        "/../../../../etc/shadow: not a file directly in / or /disk/",
    ),
    (
        "a relative record",
        |dir| record(dir, "../../etc/shadow"),
        "../../etc/shadow: not a file directly in / or /disk/",
    ),
    (
        "a record of a link",
        |dir| {
            record(dir, "/disk/link");
            symlink("/etc/shadow", dir.with_file_name("disk").join("link")).unwrap();
        },
        "/disk/link: a symlink, not a VM image (symlinks in the image's root are not followed)",
    ),
    (
        "a record that is a link",
        |dir| symlink("/etc/shadow", made(dir).join("record.json")).unwrap(),
        "ROOT/.crun-qemu/record.json: not a regular file",
    ),
    (
        "a record that is none",
        |dir| fs::write(made(dir).join("record.json"), "{").unwrap(),
        "ROOT/.crun-qemu/record.json: EOF while parsing an object at line 1 column 1",
    ),
];

fn made(dir: &Path) -> &Path {
    fs::create_dir_all(dir).unwrap();
    dir
}

fn overlay(dir: &Path, options: &[&str]) {
    let file = made(dir).join("overlay.qcow2");
    let mut args = vec!["create", "-q", "-f", "qcow2"];
    args.extend(options);
    args.extend([file.to_str().unwrap(), "4M"]);
    run("qemu-img", &args);
}

fn record(dir: &Path, image: &str) {
    fs::write(made(dir).join("record.json"), format!(r#"{{"image": "{image}", "format": "raw"}}"#)).unwrap();
}

#[test]
fn our_own_directory_forged() {
    let etc = || run("sh", &["-c", "ls -la --time-style=full-iso /etc/shadow; ls /etc"]);
    let before = etc();
    for (name, forge, want) in FORGERIES {
        let root = with_tiny();
        forge(&root.path().join(".crun-qemu"));
        let image = import(root.path());
        let forms = if *name == "a link" { &FORMS[..] } else { &FORMS[..1] };
        for form in forms {
            assert_eq!(&line(*form, &image, &[]), want, "{name} ({form:?})");
        }
    }
    assert_eq!(etc(), before);
}
