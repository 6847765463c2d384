//! Images that try to reach the host, and images that claim to come from another engine. No attempt succeeds.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{FORMS, Form, Image, Podman, Run, Vm, directory, podman_run, refusal, run, text, with_tiny};

/// Error line of an image that is refused, without podman's prefix and with ROOT for the container's root.
fn line(form: Form, image: &Image, options: &[&str]) -> String {
    let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.tag], options };
    let vm = Vm::new(run.podman);
    let line = refusal(&vm, &podman_run(&run, &vm.name, None));
    let root = vm.inspect("{{.GraphDriver.Data.UpperDir}}").replace("/diff", "/merged");
    line.replace(&root, "ROOT")
}

#[test]
fn image_configuration_does_not_change_the_supervisor() {
    let lines = r#"
        LABEL run.oci.handler=nothing run.oci.qemu.bogus=1
        ENV LD_PRELOAD=/crun-qemu/image LD_LIBRARY_PATH=/disk PATH=/disk:/usr/local/bin LIBVIRT_DEFAULT_URI=test:///default HOME=/disk
        WORKDIR /etc
        USER 1000:1000
        STOPSIGNAL SIGPWR
        ENTRYPOINT ["/bin/sh", "-c", "echo HOSTILE; sleep 1000"]
        CMD ["/bin/sh", "-c", "echo HOSTILE"]"#;
    let image = Image::built(with_tiny().path(), lines, &[]);
    for form in FORMS {
        let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.tag], options: &[] };
        let vm = run.detached();
        let console = vm.wait_for("TINY READY", 1);
        assert!(!console.contains("HOSTILE") && !console.contains("LD_PRELOAD"), "{console}");
        let process = |name: &str| text(&fs::read(format!("/proc/{}/{name}", vm.pid())).unwrap());
        assert!(process("status").contains("\nUid:\t0\t0\t0\t0\n"));
        assert_eq!(fs::read_link(format!("/proc/{}/cwd", vm.pid())).unwrap(), Path::new("/"));
        // crun adds a missing HOME: root's in the /etc/passwd that the runtime creates.
        assert_eq!(process("environ").replace("HOME=/run\0", ""), "PATH=/usr/sbin:/usr/bin:/sbin:/bin\0");
        let env = vm.podman.ok(&["exec", "--user", "0", &vm.name, "-", "env"]);
        assert!(!env.contains("LD_") && !env.contains("/disk"), "{env}");
        assert_eq!(vm.stop(), 0);
    }
}

#[test]
fn unknown_annotation_of_an_image_is_refused() {
    let annotation = ["--annotation", "run.oci.qemu.bogus=/etc/shadow"];
    let image = Image::built(with_tiny().path(), "", &annotation);
    for form in FORMS {
        let line = line(form, &image, &[]);
        assert_eq!(line, "annotation run.oci.qemu.bogus: unknown (crun-qemu options lists all)");
    }
}

/// A library that prints a line and tries to create files when it is loaded.
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
fn disk_that_is_a_library_is_not_loaded() {
    let (context, host) = (directory(), directory());
    let (marker, source) = (host.join("HOSTILE"), host.join("x.c"));
    let disk = context.join("disk/disk.img");
    fs::create_dir(context.join("disk")).unwrap();
    fs::write(&source, LIBRARY.replace("MARKER", &format!("{:?}", marker.to_str().unwrap()))).unwrap();
    run("cc", &["-shared", "-fPIC", "-o", disk.to_str().unwrap(), source.to_str().unwrap()]);
    // The library works where it is loaded.
    run("env", &[&format!("LD_PRELOAD={}", disk.display()), "true"]);
    for trace in [&marker, Path::new("/run/HOSTILE"), Path::new("/tmp/HOSTILE")] {
        fs::remove_file(trace).expect("the library does not work");
    }
    let lines = "ENV LD_PRELOAD=\"/disk/disk.img /crun-qemu/image\" LD_AUDIT=/crun-qemu/image";
    let image = Image::built(context.path(), lines, &[]);
    for form in FORMS {
        let options = ["--firmware", "bios"];
        let run = Run { podman: Podman::Rootful, form, podman_options: &[], what: &[&image.tag], options: &options };
        let vm = run.detached();
        vm.wait_for("No bootable device", 1);
        let inside = vm.exec_ok(&["-", "ls", "/run", "/tmp"]);
        // The disk cannot be mapped executable, even on request.
        let asked = vm.exec(&["-", "env", "LD_PRELOAD=/crun-qemu/image", "true"]);
        assert!(text(&asked.stderr).contains("cannot be preloaded"), "{}", text(&asked.stderr));
        let printed = inside + &vm.logs();
        assert!(!printed.contains("HOSTILE"), "{printed}");
        for trace in [&marker, Path::new("/run/HOSTILE"), Path::new("/tmp/HOSTILE")] {
            assert!(!trace.exists(), "{}", trace.display());
        }
    }
}

/// An image's volume is mounted in the guest or not at all; the processes around the VM keep their own files.
#[test]
fn volumes_of_an_image_do_not_hide_the_containers_files() {
    let context = with_tiny();
    let volume = |path: &str| {
        let dir = context.join(&path[1..]);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hostile"), "x").unwrap();
        Image::built(context.path(), &format!("VOLUME {path}"), &[])
    };
    for path in ["/proc", "/dev/net", "/run"] {
        let line = line(Form::BuildTree, &volume(path), &[]);
        assert_eq!(line, format!("mount {path}: the guest has its own there"));
    }
    for (path, form) in ["/usr", "/etc", "/crun-qemu"].iter().zip(FORMS.iter().cycle()) {
        let image = volume(path);
        let run = Run { podman: Podman::Rootful, form: *form, podman_options: &[], what: &[&image.tag], options: &[] };
        let vm = run.detached();
        vm.wait_for("TINY READY", 1);
        let found = vm.exec(&["-", "ls", &format!("{path}/hostile")]);
        assert_ne!(found.status.code(), Some(0), "{path} ({form:?})");
        assert_eq!(vm.stop(), 0);
    }
}

/// A name, what an image puts in place of the private directory `.crun-qemu`, and the error line.
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
        |dir| symlink("/etc/shadow", created(dir).join("overlay.qcow2")).unwrap(),
        "ROOT/.crun-qemu/overlay.qcow2: not a regular file",
    ),
    (
        "a device for an overlay",
        |dir| drop(run("mknod", &[created(dir).join("overlay.qcow2").to_str().unwrap(), "c", "1", "5"])),
        "ROOT/.crun-qemu/overlay.qcow2: not a regular file",
    ),
    ("a record of a host file", |dir| record(dir, "/etc/shadow"), "/etc/shadow: not a file directly in / or /disk/"),
    (
        "a record with ..",
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
        |dir| symlink("/etc/shadow", created(dir).join("record.json")).unwrap(),
        "ROOT/.crun-qemu/record.json: not a regular file",
    ),
    (
        "an invalid record",
        |dir| fs::write(created(dir).join("record.json"), "{").unwrap(),
        "ROOT/.crun-qemu/record.json: EOF while parsing an object at line 1 column 1",
    ),
];

/// Creates the directory.
fn created(dir: &Path) -> &Path {
    fs::create_dir_all(dir).unwrap();
    dir
}

fn overlay(dir: &Path, options: &[&str]) {
    let file = created(dir).join("overlay.qcow2");
    let mut args = vec!["create", "-q", "-f", "qcow2"];
    args.extend(options);
    args.extend([file.to_str().unwrap(), "4M"]);
    run("qemu-img", &args);
}

fn record(dir: &Path, image: &str) {
    fs::write(created(dir).join("record.json"), format!(r#"{{"image": "{image}", "format": "raw"}}"#)).unwrap();
}

#[test]
fn forged_private_directory_is_refused() {
    let etc = || run("sh", &["-c", "ls -la --time-style=full-iso /etc/shadow; ls /etc"]);
    let before = etc();
    for (name, forge, want) in FORGERIES {
        let root = with_tiny();
        forge(&root.join(".crun-qemu"));
        let image = Image::imported(root.path());
        let forms = if *name == "a link" { &FORMS[..] } else { &FORMS[..1] };
        for form in forms {
            assert_eq!(&line(*form, &image, &[]), want, "{name} ({form:?})");
        }
    }
    assert_eq!(etc(), before);
}

/// Annotations with which an image claims to be a pod's infrastructure container of another engine. podman before 4.6
/// copies them to the container.
const FORGED_ENGINE: &[&str] = &[
    "--annotation",
    "io.container.manager=cri-o",
    "--annotation",
    "io.kubernetes.cri.container-type=sandbox",
    "--annotation",
    "io.kubernetes.cri-o.ContainerType=sandbox",
    "--annotation",
    "io.kubernetes.cri-o.SandboxID=f1aed84e4940",
];

#[test]
fn image_cannot_claim_to_be_a_sandbox() {
    let options = [FORGED_ENGINE, &["--annotation", "run.oci.qemu.bogus=1"]].concat();
    let image = Image::built(with_tiny().path(), "", &options);
    // The runtime reads this annotation only of VMs.
    let line = line(Form::BuildTree, &image, &[]);
    assert_eq!(line, "annotation run.oci.qemu.bogus: unknown (crun-qemu options lists all)");
}

/// podman's options have their effect, whatever engine the image names.
#[test]
fn image_cannot_change_the_meaning_of_podmans_options() {
    let image = Image::built(with_tiny().path(), "", FORGED_ENGINE);
    let dir = directory();
    let volume = format!("{}:/run/secrets", dir.path().display());
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &["--memory", "1g", "-v", &volume],
        what: &[&image.tag],
        options: &["--print-libvirt-xml"],
    };
    let vm = Vm::new(run.podman);
    let output = run.podman.output(&run.args(&vm.name));
    let (xml, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(xml.contains("<target dir=\"/run/secrets\"/>"), "{xml}");
    // In a Kubernetes pod the guest would have less memory.
    assert!(xml.contains("<memory unit=\"b\">1073741824</memory>") && !errors.contains("--memory"), "{xml}{errors}");
}
