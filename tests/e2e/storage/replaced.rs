//! Replaced files: the image below a container's disk, and files between their inspection and their mount.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    Dir, Form, Image, LABEL, Podman, Run, Vm, directory, guest, host_script, podman_with, run, text, unique,
};

const CHANGED: &str = "qemu: /disk/disk.qcow2: the image has been written to since the container's disk was made on it \
                       (make a new container)";

/// `podman cp` can replace the image in a container's layer, below the disk that the guest has written to.
#[test]
fn replaced_image_in_a_layer_is_refused() {
    let dir = directory();
    let (old, new) = (dir.join("disk.qcow2"), dir.join("new.qcow2"));
    fs::copy(guest("tiny"), &old).unwrap();
    run("qemu-img", &["convert", "-O", "qcow2", old.to_str().unwrap(), new.to_str().unwrap()]);
    let image = Image::packaged(Podman::Rootful, &old);
    let what = [image.tag.as_str()];
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &[] };
    let vm = run.detached();
    vm.wait_for("TINY READY", 1);
    vm.write_marker("kept");
    assert_eq!(vm.stop(), 0);
    let put = |file: &Path| vm.podman.ok(&["cp", file.to_str().unwrap(), &format!("{}:/disk/disk.qcow2", vm.name)]);
    put(&new);
    vm.start_fails_with(CHANGED);
    let committed = Image::named(Podman::Rootful);
    vm.podman.ok(&["commit", "-q", &vm.name, &committed.tag]);
    Run { what: &[&committed.tag], ..run }.fails_with(CHANGED);
    // With the original image the container still has its disk.
    put(&old);
    vm.start();
    vm.wait_for("TINY READY", 2);
    assert_eq!(vm.marker(), "kept");
    assert_eq!(vm.stop(), 0);
}

/// A crun that replaces `path` by a link to another file before it mounts a container's files.
struct Swap {
    path: PathBuf,
    dir: Dir,
}

impl Swap {
    fn new(path: &Path) -> Self {
        let dir = directory();
        let (real, secret) = (dir.join("real"), dir.join("secret"));
        fs::copy("/usr/bin/crun", &real).unwrap();
        fs::write(&secret, [b'x'; 1 << 16]).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' create '*) mv {0} {0}.aside && ln -s {1} {0} ;; esac\nexec {2} \"$@\"\n",
            path.display(),
            secret.display(),
            real.display()
        );
        host_script(&dir, "crun", &script);
        Self { path: path.to_owned(), dir }
    }

    /// `podman run` with that crun: the status and stderr.
    fn run(&self, run: &Run) -> (Option<i32>, String) {
        let vm = Vm::new(run.podman);
        let mut args = run.args(&vm.name);
        args.insert(1, "--rm".into());
        let output = podman_with(&self.dir.join("crun"), "/usr/bin/crun").args(args).output().unwrap();
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
fn file_replaced_before_the_mount_is_refused() {
    let dir = directory();
    let (root, more) = (dir.join("root"), dir.join("more.img"));
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
        let (status, stderr) = swap.run(&run);
        let line = format!(
            "qemu: {name}: another file was put in its place while the container was made (start it again when no \
             other process changes the directory)"
        );
        assert!(status == Some(1) && stderr.lines().any(|l| l == line), "{status:?} {stderr}");
        drop(swap);
    }
}

/// A tmpfs below `/run`, where some engines keep their bundles.
struct InMemory(PathBuf);

impl InMemory {
    fn new() -> Self {
        let path = Path::new("/run").join(unique(LABEL));
        fs::create_dir(&path).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]);
        Self(path)
    }

    /// podman with all its storage in the tmpfs: its status and output.
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

/// Docker, containerd, CRI-O and podman with `--transient-store` keep bundles in a tmpfs, which a guest's disk must not
/// fill.
#[test]
fn guest_disk_is_not_created_in_memory() {
    let (memory, dir) = (InMemory::new(), directory());
    let disk = dir.join("disk.img");
    run("qemu-img", &["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "64M"]);
    let tar = dir.at("image.tar");
    run("tar", &["-C", dir.path().to_str().unwrap(), "-cf", &tar, "disk.img"]);
    let args = |more: &[&str]| -> Vec<String> {
        let mut args = vec!["run".to_string(), "--network".into(), "none".into()];
        args.extend(Form::BuildTree.options());
        args.extend(more.iter().chain(&["", "--emulated", "--firmware", "bios"]).map(ToString::to_string));
        args
    };
    let podman_run = |more: &[&str]| memory.podman(&args(more).iter().map(String::as_str).collect::<Vec<_>>());
    fs::remove_file(&disk).unwrap();
    let root = dir.join("root");
    fs::create_dir(&root).unwrap();
    run("tar", &["-xf", &tar, "-C", root.to_str().unwrap()]);
    let (status, output) = podman_run(&["--rm", "--rootfs", root.to_str().unwrap()]);
    let why = "the guest's disk would be here, in the host's memory, and gone with the host's next boot (--persistent has \
               it write to the image itself; podman keeps its containers on disk without --transient-store)";
    assert!(status != Some(0) && output.contains("qemu: /run/") && output.contains(why), "{status:?} {output}");

    assert_eq!(memory.podman(&["import", "-q", &tar, "vm"]).0, Some(0));
    let (status, output) = podman_run(&["-d", "--name", "vm", "--read-only", "vm"]);
    assert_eq!(status, Some(0), "{output}");
    let field = |format: &str| memory.podman(&["inspect", "--format", format, "vm"]).1.trim().to_string();
    let layer = PathBuf::from(field("{{.GraphDriver.Data.UpperDir}}"));
    assert!(layer.join(".crun-qemu/overlay.qcow2").is_file());
    assert!(!Path::new(&field("{{.StaticDir}}")).join("crun-qemu/overlay.qcow2").exists());
}
