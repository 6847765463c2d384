//! Files that are replaced: below a container's disk, and between the look at them and the mount.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, guest, run, text, unique};
use crate::host_view::podman_with;
use crate::images::{Image, marker, write_marker};

const CHANGED: &str = "qemu: /disk/disk.qcow2: the image has been written to since the container's disk was made on it \
                       (make a new container)";

#[track_caller]
fn does_not_start(vm: &Vm, line: &str) {
    let output = vm.podman.output(&["start", &vm.name]);
    assert!(!output.status.success() && text(&output.stderr).contains(line), "{}", text(&output.stderr));
}

/// `podman cp` can put another image into a container's layer, below the disk that its guest has written to.
#[test]
fn an_image_in_a_layer() {
    let dir = directory();
    let (old, new) = (dir.path().join("disk.qcow2"), dir.path().join("new.qcow2"));
    fs::copy(guest("tiny"), &old).unwrap();
    run("qemu-img", &["convert", "-O", "qcow2", old.to_str().unwrap(), new.to_str().unwrap()]);
    let image = Image::packaged(Podman::Rootful, &old);
    let what = [image.tag.as_str()];
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &[] };
    let vm = run.detached();
    vm.wait_for("TINY READY", 1);
    write_marker(&vm, "kept");
    assert_eq!(vm.stop(), 0);
    let put = |file: &Path| vm.podman.ok(&["cp", file.to_str().unwrap(), &format!("{}:/disk/disk.qcow2", vm.name)]);
    put(&new);
    does_not_start(&vm, CHANGED);
    let committed = Image::named(Podman::Rootful);
    vm.podman.ok(&["commit", "-q", &vm.name, &committed.tag]);
    let (status, message) = Run { what: &[&committed.tag], ..run }.refused();
    assert!(status != Some(0) && message.contains(CHANGED), "{status:?} {message}");
    // Nothing is lost by the refusal.
    put(&old);
    vm.podman.ok(&["start", &vm.name]);
    vm.wait_for("TINY READY", 2);
    assert_eq!(marker(&vm), "kept");
    assert_eq!(vm.stop(), 0);
}

/// A crun that puts a link to another file in place of `path` before it makes a container's mounts.
struct Swap {
    path: PathBuf,
    dir: tempfile::TempDir,
}

impl Swap {
    fn new(path: &Path) -> Self {
        let dir = directory();
        let (real, ours, secret) = (dir.path().join("real"), dir.path().join("crun"), dir.path().join("secret"));
        fs::copy("/usr/bin/crun", &real).unwrap();
        fs::write(&secret, [b'x'; 1 << 16]).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' create '*) mv {0} {0}.aside && ln -s {1} {0} ;; esac\nexec {2} \"$@\"\n",
            path.display(),
            secret.display(),
            real.display()
        );
        fs::write(&ours, script).unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path: path.to_owned(), dir }
    }

    /// `podman run` with that crun: the status and stderr.
    fn refused(&self, run: &Run) -> (Option<i32>, String) {
        let vm = Vm { podman: run.podman, name: unique(LABEL) };
        let mut args = run.args(&vm.name);
        args.insert(1, "--rm".into());
        let output = podman_with(&self.dir.path().join("crun"), "/usr/bin/crun").args(args).output().unwrap();
        (output.status.code(), text(&output.stderr))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        fs::rename(self.path.with_extension("img.aside"), &self.path).unwrap();
    }
}

#[test]
fn a_file_between_the_look_and_the_mount() {
    let dir = directory();
    let (root, more) = (dir.path().join("root"), dir.path().join("more.img"));
    fs::create_dir(&root).unwrap();
    let disk = root.join("disk.img");
    for file in [&disk, &more] {
        run("qemu-img", &["create", "-q", "-f", "qcow2", file.to_str().unwrap(), "64M"]);
    }
    let (what, volume) = (["--rootfs", root.to_str().unwrap()], format!("{}:/more.img", more.display()));
    let blockdev = ["--blockdev", "source=/more.img,target=/dev/more,format=qcow2"];
    let cases: [(&Path, &str, &[&str], &[&str]); 3] = [
        (&disk, "/disk.img", &[], &["--firmware", "bios"]),
        (&disk, "/disk.img", &[], &["--firmware", "bios", "--persistent"]),
        (&more, "--blockdev source=/more.img", &["-v", &volume], &blockdev),
    ];
    for (path, name, podman_options, options) in cases {
        let swap = Swap::new(path);
        let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options, what: &what, options };
        let (status, said) = swap.refused(&run);
        let line = format!(
            "qemu: {name}: another file was put in its place while the container was made (start it again when nobody \
             changes the directory)"
        );
        assert!(status == Some(1) && said.lines().any(|l| l == line), "{status:?} {said}");
        drop(swap);
    }
}

/// A tmpfs where engines with bundles in memory have them.
struct InMemory(PathBuf);

impl InMemory {
    fn new() -> Self {
        let path = Path::new("/run").join(unique("crun-qemu-test"));
        fs::create_dir(&path).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]);
        Self(path)
    }

    /// podman with all its storage there; its status and what it said.
    fn podman(&self, args: &[&str]) -> (Option<i32>, String) {
        let at = |name: &str| self.0.join(name).to_str().unwrap().to_string();
        let output = Podman::Rootful.command().args(["--root", &at("s"), "--runroot", &at("r")]).args(args).output();
        let output = output.unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.podman(&["rm", "-f", "-a", "-t", "0"]);
        for (path, recursive) in [("s/overlay", "-q"), ("", "-qR")] {
            let _ = std::process::Command::new("umount").arg(recursive).arg(self.0.join(path)).status();
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Docker, containerd and CRI-O keep their bundles so, and podman with `--transient-store`: a guest's disk is not to fill it.
#[test]
fn a_bundle_in_the_hosts_run() {
    let (memory, dir) = (InMemory::new(), directory());
    let disk = dir.path().join("disk.img");
    run("qemu-img", &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "64M"]);
    let tar = run(
        "sh",
        &["-c", &format!("cd {0} && tar -cf image.tar disk.img && echo {0}/image.tar", dir.path().display())],
    );
    let args = |more: &[&str]| -> Vec<String> {
        let mut args = vec!["run".to_string(), "--network".into(), "none".into()];
        args.extend(Form::BuildTree.options());
        args.extend(more.iter().chain(&["", "--emulated", "--firmware", "bios"]).map(ToString::to_string));
        args
    };
    let run = |more: &[&str]| memory.podman(&args(more).iter().map(String::as_str).collect::<Vec<_>>());
    fs::remove_file(&disk).unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    crate::harness::run("tar", &["-xf", &tar, "-C", root.to_str().unwrap()]);
    let (status, said) = run(&["--rm", "--rootfs", root.to_str().unwrap()]);
    let why = "the guest's disk would be here, in the host's memory, and gone with the host's next boot (--persistent has \
               it write to the image itself; podman keeps its containers on disk without --transient-store)";
    assert!(status != Some(0) && said.contains("qemu: /run/") && said.contains(why), "{status:?} {said}");

    assert_eq!(memory.podman(&["import", "-q", &tar, "vm"]).0, Some(0));
    let (status, said) = run(&["-d", "--name", "vm", "--read-only", "vm"]);
    assert_eq!(status, Some(0), "{said}");
    let field = |format: &str| memory.podman(&["inspect", "--format", format, "vm"]).1.trim().to_string();
    let layer = PathBuf::from(field("{{.GraphDriver.Data.UpperDir}}"));
    assert!(layer.join(".crun-qemu/overlay.qcow2").is_file());
    assert!(!Path::new(&field("{{.StaticDir}}")).join("crun-qemu/overlay.qcow2").exists());
}
