//! Options of podman's volumes.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use crate::harness::{Form, Image, Podman, Run, directory, rootfs, run, with_tiny};

/// A script that mounts the directories in the tiny guest, which has no set-up of its own.
fn mounts(targets: &[&str]) -> String {
    let one = |target: &&str| format!("mkdir -p {target} && mount -t virtiofs {target} {target}; ");
    format!("modprobe virtiofs; {}", targets.iter().map(one).collect::<String>())
}

/// A directory whose mounts propagate.
struct Shared(PathBuf);

impl Shared {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("sub")).unwrap();
        let name = path.to_str().unwrap();
        run("mount", &["--bind", name, name]);
        run("mount", &["--make-shared", name]);
        Self(path)
    }

    /// Mounts something below it.
    fn mount(&self) {
        run("mount", &["-t", "tmpfs", "crun-qemu-test", self.0.join("sub").to_str().unwrap()]);
        fs::write(self.0.join("sub/later"), "later\n").unwrap();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for path in [self.0.join("sub"), self.0.clone()] {
            let _ = std::process::Command::new("umount").arg("-q").arg(path).status();
        }
    }
}

#[test]
fn propagation_ownership_and_overlays_reach_the_guest() {
    let (dir, root) = (directory(), rootfs(Podman::Rootful, "tiny"));
    let kinds = ["rslave", "rshared", "rprivate"];
    let shared = kinds.map(|kind| Shared::new(dir.join(kind)));
    let mut options: Vec<String> = Vec::new();
    let mut volume = |source: &Path, rest: &str| options.extend(["-v".into(), format!("{}:{rest}", source.display())]);
    for (kind, Shared(source)) in kinds.iter().zip(&shared) {
        volume(source, &format!("/{kind}:{kind}"));
    }
    for kind in ["U", "z", "Z", "O"] {
        let source = dir.join(kind);
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "from the host\n").unwrap();
        chown(source.join("file"), Some(1234), Some(1234)).unwrap();
        volume(&source, &format!("/{kind}:{kind}"));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let what = root.as_root();
    let vm = Run { podman: Podman::Rootful, form: Form::Plugin, podman_options: &options, what: &what, options: &[] }
        .detached();
    vm.guest_sh(&mounts(&["/rslave", "/rshared", "/rprivate", "/U", "/z", "/Z", "/O"]));

    // Mounts that the host creates later.
    shared.iter().for_each(Shared::mount);
    assert_eq!(vm.exec_ok(&["root", "cat", "/rslave/sub/later", "/rshared/sub/later"]), "later\nlater");
    assert_eq!(vm.exec_ok(&["root", "ls", "/rprivate/sub"]), "");

    assert_eq!(vm.exec_ok(&["root", "stat", "-c", "%u", "/U/file", "/z/file", "/Z/file"]), "0\n1234\n1234");
    assert_eq!(vm.guest_sh("echo guest > /O/file; cat /O/file"), "guest");
    assert_eq!(fs::read_to_string(dir.join("O/file")).unwrap(), "from the host\n");
    assert_eq!(vm.stop(), 0);
}

/// On the host the container's processes have other users; so have shared files unless the mount maps them.
#[test]
fn vm_runs_in_another_user_namespace() {
    let context = with_tiny();
    let image = Image::built(context.path(), "", &[]);
    let dir = directory();
    let (plain, mapped) = (dir.join("plain"), dir.join("mapped"));
    for source in [&plain, &mapped] {
        fs::create_dir(source).unwrap();
        fs::write(source.join("file"), "").unwrap();
    }
    let volumes = [format!("{}:/plain", plain.display()), format!("{}:/mapped:idmap", mapped.display())];
    let ids = "0:200000:65536";
    let options = ["--uidmap", ids, "--gidmap", ids, "-v", &volumes[0], "-v", &volumes[1]];
    for form in [Form::Plugin, Form::BuildTree] {
        let run = Run { podman: Podman::Rootful, form, podman_options: &options, what: &[&image.tag], options: &[] };
        let vm = run.detached();
        vm.guest_sh(&mounts(&["/plain", "/mapped"]));
        assert_eq!(vm.exec_ok(&["root", "stat", "-c", "%u", "/plain/file", "/mapped/file"]), "65534\n0");
        vm.guest_sh("! touch /plain/new && touch /mapped/new");
        assert_eq!(fs::metadata(mapped.join("new")).unwrap().uid(), 0);
        fs::remove_file(mapped.join("new")).unwrap();
        let qemu = vm.container_sh("stat -c %u /proc/$(pidof qemu-system-x86_64)");
        let host = fs::metadata(format!("/proc/{}", vm.pid())).unwrap().uid();
        assert!((32767..65534).contains(&qemu.parse().unwrap()) && host == 200_000, "{qemu} {host}");
        assert_eq!(vm.stop(), 0);
    }
}
