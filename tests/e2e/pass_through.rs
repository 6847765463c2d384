//! What podman's flags give a container, the guest has: directories, files, tmpfs, secrets, disks.

mod once;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use once::mounted_once;

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, run, unique};

const MEBIBYTE: u64 = 1 << 20;

/// A loop device; gone with this.
pub struct Loop(pub String);

impl Loop {
    pub fn new(file: &Path) -> Self {
        Self(run("losetup", &["-f", "--show", file.to_str().unwrap()]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["-d", &self.0]);
    }
}

/// A secret of podman's; gone with this.
struct Secret(Podman, String);

impl Secret {
    fn new(podman: Podman, content: &Path) -> Self {
        let name = unique(LABEL);
        podman.ok(&["secret", "create", &name, content.to_str().unwrap()]);
        Self(podman, name)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.output(&["secret", "rm", &self.1]);
    }
}

/// What a user has on the host, to be given to a VM.
struct Things {
    dir: TempDir,
    loops: Vec<Loop>,
    secret: Secret,
    volume: String,
}

/// The oddest name that a directory may have and podman takes, of 200 bytes.
const ODD: &str = concat!(
    r#"/srv/o dd %41 'q' "d" $x ä/"#,
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-",
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-ends",
);

impl Things {
    fn new(podman: Podman) -> Self {
        let dir = directory();
        let path = |name: &str| dir.path().join(name);
        for name in ["shared/inner", "other"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("shared/file"), "from the host").unwrap();
        fs::write(path("config"), "one\n").unwrap();
        fs::write(path("secret"), "s3cret").unwrap();
        for name in ["raw", "block", "granted"] {
            fs::File::create(path(name)).unwrap().set_len(8 * MEBIBYTE).unwrap();
        }
        run("qemu-img", &["create", "-q", "-f", "qcow2", path("qcow2").to_str().unwrap(), "64M"]);
        // As podman's user has them: every name is open to all.
        run("chmod", &["-R", "a+rwX", dir.path().to_str().unwrap()]);
        podman.own(dir.path());
        let loops = if podman == Podman::Rootful {
            ["block", "granted"].map(|name| Loop::new(&path(name))).into()
        } else {
            vec![]
        };
        let secret = Secret::new(podman, &path("secret"));
        Self { dir, loops, secret, volume: unique(LABEL) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn host(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// podman's options for all of it.
    fn options(&self) -> Vec<String> {
        let v = |source: &str, rest: &str| ["-v".to_owned(), format!("{}:{rest}", self.host(source))];
        let mut all: Vec<String> = ["--memory", "768m", "--ulimit", "nofile=8192:8192", "--ulimit", "nproc=1024:1024"]
            .map(String::from)
            .into();
        all.extend(v("shared", ODD));
        all.extend(v("shared", "/srv/ro:ro"));
        all.extend(v("other", "/srv/ro/inner"));
        all.extend(v("config", "/etc/app/config"));
        all.extend(v("config", "/etc/app/config-ro:ro"));
        all.extend(v("qcow2", "/images/qcow2"));
        all.extend(v("raw", "/images/raw"));
        all.extend(["-v".into(), format!("{}:/srv/volume", self.volume)]);
        all.extend(["--tmpfs", "/srv/tmp:size=2m,mode=700", "--tmpfs", "/etc/security"].map(String::from));
        all.extend(["--secret".into(), self.secret.1.clone()]);
        all.extend(["--secret".into(), format!("{},target=/etc/secret,uid=7", self.secret.1)]);
        if let [block, granted] = self.loops.as_slice() {
            all.extend(["-v".into(), format!("{}:/srv/block", block.0)]);
            all.extend(["--device".into(), format!("{}:/dev/granted:r", granted.0)]);
        }
        all
    }
}

impl Drop for Things {
    fn drop(&mut self) {
        self.secret.0.output(&["volume", "rm", "-f", &self.volume]);
    }
}

const BLOCKDEVS: [&str; 4] = [
    "--blockdev",
    "source=/images/qcow2,target=/dev/image,format=qcow2",
    "--blockdev",
    "readonly=on,format=raw,target=/srv/image,source=/images/raw",
];

/// Each script, run by root's shell in the guest, prints what stands beside it.
#[track_caller]
fn finds(vm: &Vm, table: &[(&str, &str)]) {
    for (script, want) in table {
        assert_eq!(vm.exec_ok(&["root", "sh", "-c", script]), *want, "{script}");
    }
}

/// What holds on every boot.
#[track_caller]
fn everything_is_there(vm: &Vm, things: &Things) {
    mounted_once(vm);
    let odd = format!("cd '{}'", ODD.replace('\'', "'\\''"));
    finds(
        vm,
        &[
            (&format!("{odd} && cat file && stat -f -c %T ."), "from the hostfuseblk"),
            ("cat /srv/ro/file; findmnt -n -o FSTYPE,OPTIONS /srv/ro", "from the hostvirtiofs ro,relatime"),
            // The host says so, whatever the guest does.
            ("mount -o remount,rw /srv/ro; touch /srv/ro/x 2>&1 | grep -o Read-only.*", "Read-only file system"),
            ("touch /srv/ro/inner/guest; rm /srv/ro/inner/guest; findmnt -n -o SOURCE /srv/ro/inner", "/srv/ro/inner"),
            (
                "touch /etc/app/config-ro 2>&1 | grep -o Read-only.*; ls /etc/app",
                "Read-only file system\nconfig\nconfig-ro",
            ),
            ("findmnt -n -o FSTYPE /srv/volume", "virtiofs"),
            ("df -k --output=size /srv/tmp | tail -1 | tr -d ' '; stat -c %a /srv/tmp", "2048\n700"),
            ("findmnt -n -o FSTYPE /etc/security; ls /etc/security/limits.conf", "tmpfs\n/etc/security/limits.conf"),
            (&format!("cat /run/secrets/{}; stat -c %a /run/secrets/*", things.secret.1), "s3cret400"),
            ("cat /etc/secret; stat -c %u:%a /etc/secret", "s3cret7:400"),
            ("blockdev --getsize64 --getro /dev/image", "67108864\n0"),
            ("blockdev --getsize64 --getro /srv/image", "8388608\n1"),
            ("udevadm trigger --settle; readlink /dev/image | tr -d 0-9", "/dev/disk/by-id/virtio-crun-qemu-"),
        ],
    );
    let logs = vm.logs();
    assert!(!logs.contains("crun-qemu: "), "the set-up failed: {logs}");
    // Files are live both ways.
    let see = |word: &str| format!("until grep {word} /etc/app/config-ro; do sleep 0.2; done");
    finds(vm, &[(&format!("echo two >> /etc/app/config; {}", see("two")), "two")]);
    assert!(fs::read_to_string(things.path("config")).unwrap().ends_with("two\n"));
    fs::write(things.path("config"), "three\n").unwrap();
    finds(vm, &[(&see("three"), "three")]);
    if !things.loops.is_empty() {
        finds(
            vm,
            &[(
                "blockdev --getro /dev/granted; dd if=/dev/zero of=/dev/granted count=1 2>&1 | grep -c permitted",
                "1\n1",
            )],
        );
    }
    let status = vm.exec_ok(&["-", "crun-qemu-init", "status"]);
    for row in ["share        /srv/ro read-only", "virtiofsd    virtiofsd "] {
        assert!(status.contains(row), "{row}: {status}");
    }
}

/// Sums of as many bytes as make sense, written on one side and read on the other.
#[track_caller]
fn bytes_arrive(vm: &Vm, things: &Things, mebibytes: u32) {
    let sum = |file: &str| run("sha256sum", &[file]).split(' ').next().unwrap().to_owned();
    let from_host = things.host("shared/big");
    run("dd", &["if=/dev/urandom", &format!("of={from_host}"), "bs=1M", &format!("count={mebibytes}")]);
    finds(vm, &[("cd /srv/o*/*; sha256sum big | cut -d' ' -f1; cp big copy; sync", &sum(&from_host))]);
    assert_eq!(sum(&things.host("shared/copy")), sum(&from_host));
    for name in ["shared/big", "shared/copy"] {
        fs::remove_file(things.path(name)).unwrap();
    }
    if things.loops.is_empty() {
        return;
    }
    finds(vm, &[("dd if=/dev/urandom of=/srv/block bs=1M count=8 oflag=direct 2>/dev/null; echo $?", "0")]);
    let guest = vm.exec_ok(&["root", "sh", "-c", "sha256sum $(readlink -f /srv/block) | cut -d' ' -f1"]);
    assert_eq!(sum(&things.host("block")), guest);
}

/// First and second boot of the cloud guest.
fn cloud(podman: Podman, form: Form, mebibytes: u32, early: bool) {
    let things = Things::new(podman);
    let root = rootfs(podman, "cloud");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = things.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let dir = once::early();
    let seed = ["--cloud-init", dir.path().to_str().unwrap()];
    let own_options = [&BLOCKDEVS[..], if early { &seed } else { &[] }].concat();
    let vm = Run { podman, form, podman_options: &options, what: &what, options: &own_options }.detached();
    everything_is_there(&vm, &things);
    assert!(!early || once::were_early(&vm).contains(ODD));
    bytes_arrive(&vm, &things, mebibytes);
    // Before anything of the user's starts.
    let order = vm.exec_ok(&["root", "systemctl", "show", "-p", "Before", "cloud-init.service"]);
    assert!(order.contains("sysinit.target") || order.contains("sshd.service"), "{order}");
    // Whom the files belong to on the host is who podman's user is.
    finds(&vm, &[("cd /srv/o*/*; : > mine; chmod 640 mine; stat -c %u:%a mine", "0:640")]);
    let mine = fs::metadata(things.path("shared/mine")).unwrap();
    let owner = fs::metadata(things.path("shared")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((mine.uid(), mine.permissions().mode() & 0o777), (owner.uid(), 0o640));

    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["start", &vm.name]);
    everything_is_there(&vm, &things);
    drop(vm);
    // A secret is not left on the guest's disk, nor anything in the directories that were shared.
    assert_eq!(fs::read_dir(things.path("other")).unwrap().count(), 0);
}

#[test]
fn on_a_cloud_image() {
    cloud(Podman::Rootful, Form::Plugin, 200, true);
}

#[test]
fn on_a_cloud_image_rootless() {
    cloud(Podman::Rootless, Form::BuildTree, 20, false);
}

/// Guests without cloud-init: what their own kind of set-up can do.
fn others(guest: &str, user: &str) {
    let things = Things::new(Podman::Rootful);
    let root = rootfs(Podman::Rootful, guest);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = things.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &options,
        what: &what,
        options: &BLOCKDEVS,
    };
    let vm = run.detached();
    vm.exec_ok(&[user, "systemctl", "is-system-running", "--wait"]);
    let odd = format!("cat '{}/file'", ODD.replace('\'', "'\\''"));
    finds(
        &vm,
        &[
            (&odd, "from the host"),
            ("touch /srv/ro/x 2>&1 | grep -o Read-only.*; cat /srv/ro/file", "Read-only file system\nfrom the host"),
            ("findmnt -n -o SOURCE /srv/ro/inner", "/srv/ro/inner"),
            ("cat /etc/app/config-ro", "one"),
            ("df -k --output=size /srv/tmp | tail -1 | tr -d ' '", "2048"),
            ("blockdev --getsize64 --getro /dev/image", "67108864\n0"),
            ("blockdev --getsize64 --getro /srv/image", "8388608\n1"),
        ],
    );
    mounted_once(&vm);
    if guest == "ignition" {
        finds(&vm, &[("cat /etc/secret; stat -c %u:%a /etc/secret", "s3cret7:400")]);
    }
}

#[test]
fn by_ignition() {
    others("ignition", "core");
}

/// Those of systemd 257.
#[test]
fn by_credentials() {
    others("trixie", "root");
}
