//! Everything that podman's options give a container reaches the guest: directories, files, tmpfs, secrets, disks.

mod once;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use once::mounted_once;

use crate::harness::{Dir, Form, LABEL, Loop, Podman, Run, Vm, directory, rootfs, run, unique};

const MEBIBYTE: u64 = 1 << 20;

/// A podman secret, removed when this is dropped.
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

/// Files, devices, a secret and a volume of the host.
struct Things {
    dir: Dir,
    loops: Vec<Loop>,
    secret: Secret,
    volume: String,
}

/// A directory's name of 200 bytes with every kind of character that podman accepts.
const ODD: &str = concat!(
    r#"/srv/o dd %41 'q' "d" $x ä/"#,
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-",
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-ends",
);

impl Things {
    fn new(podman: Podman) -> Self {
        let dir = directory();
        let path = |name: &str| dir.join(name);
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
        // Rootless podman needs access to all of it.
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
        self.dir.join(name)
    }

    fn host(&self, name: &str) -> String {
        self.dir.at(name)
    }

    /// podman's options that pass all of it.
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

/// Checks the guest's side; it is the same on every boot.
#[track_caller]
fn everything_is_there(vm: &Vm, things: &Things) {
    mounted_once(vm);
    let odd = format!("cd '{}'", ODD.replace('\'', "'\\''"));
    vm.guest_prints(&[
        (&format!("{odd} && cat file && stat -f -c %T ."), "from the hostfuseblk"),
        ("cat /srv/ro/file; findmnt -n -o FSTYPE,OPTIONS /srv/ro", "from the hostvirtiofs ro,relatime"),
        // The host enforces it, whatever the guest does.
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
    ]);
    let logs = vm.logs();
    assert!(!logs.contains("crun-qemu: "), "the set-up failed: {logs}");
    // A change of a file shows on the other side.
    let see = |word: &str| format!("until grep {word} /etc/app/config-ro; do sleep 0.2; done");
    vm.guest_prints(&[(&format!("echo two >> /etc/app/config; {}", see("two")), "two")]);
    assert!(fs::read_to_string(things.path("config")).unwrap().ends_with("two\n"));
    fs::write(things.path("config"), "three\n").unwrap();
    vm.guest_prints(&[(&see("three"), "three")]);
    if !things.loops.is_empty() {
        vm.guest_prints(&[(
            "blockdev --getro /dev/granted; dd if=/dev/zero of=/dev/granted count=1 2>&1 | grep -c permitted",
            "1\n1",
        )]);
    }
    let status = vm.status();
    for row in ["share        /srv/ro read-only", "virtiofsd    virtiofsd "] {
        assert!(status.contains(row), "{row}: {status}");
    }
}

/// Files of this size and a disk have the same checksum on both sides.
#[track_caller]
fn bytes_arrive(vm: &Vm, things: &Things, mebibytes: u32) {
    let sum = |file: &str| run("sha256sum", &[file]).split(' ').next().unwrap().to_owned();
    let from_host = things.host("shared/big");
    run("dd", &["if=/dev/urandom", &format!("of={from_host}"), "bs=1M", &format!("count={mebibytes}")]);
    vm.guest_prints(&[("cd /srv/o*/*; sha256sum big | cut -d' ' -f1; cp big copy; sync", &sum(&from_host))]);
    assert_eq!(sum(&things.host("shared/copy")), sum(&from_host));
    for name in ["shared/big", "shared/copy"] {
        fs::remove_file(things.path(name)).unwrap();
    }
    if things.loops.is_empty() {
        return;
    }
    vm.guest_prints(&[("dd if=/dev/urandom of=/srv/block bs=1M count=8 oflag=direct 2>/dev/null; echo $?", "0")]);
    let guest = vm.guest_sh("sha256sum $(readlink -f /srv/block) | cut -d' ' -f1");
    assert_eq!(sum(&things.host("block")), guest);
}

/// First and second boot of the cloud guest.
fn cloud(podman: Podman, form: Form, mebibytes: u32, early: bool) {
    let things = Things::new(podman);
    let root = rootfs(podman, "cloud");
    let what = root.as_root();
    let options = things.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let dir = once::early();
    let seed = ["--cloud-init", dir.path().to_str().unwrap()];
    let own_options = [&BLOCKDEVS[..], if early { &seed } else { &[] }].concat();
    let vm = Run { podman, form, podman_options: &options, what: &what, options: &own_options }.detached();
    everything_is_there(&vm, &things);
    assert!(!early || once::were_early(&vm).contains(ODD));
    bytes_arrive(&vm, &things, mebibytes);
    // The mounts precede the user's services.
    let order = vm.exec_ok(&["root", "systemctl", "show", "-p", "Before", "cloud-init.service"]);
    assert!(order.contains("sysinit.target") || order.contains("sshd.service"), "{order}");
    // Files of the guest's root belong to podman's user on the host.
    vm.guest_prints(&[("cd /srv/o*/*; : > mine; chmod 640 mine; stat -c %u:%a mine", "0:640")]);
    let mine = fs::metadata(things.path("shared/mine")).unwrap();
    let owner = fs::metadata(things.path("shared")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((mine.uid(), mine.permissions().mode() & 0o777), (owner.uid(), 0o640));

    assert_eq!(vm.stop(), 0);
    vm.start();
    everything_is_there(&vm, &things);
    drop(vm);
    // Nothing is left in the shared directories.
    assert_eq!(fs::read_dir(things.path("other")).unwrap().count(), 0);
}

#[test]
fn cloud_init_guest_has_everything() {
    cloud(Podman::Rootful, Form::Plugin, 200, true);
}

#[test]
fn cloud_init_guest_has_everything_rootless() {
    cloud(Podman::Rootless, Form::BuildTree, 20, false);
}

/// Guests without cloud-init.
fn guest_has_most(guest: &str, user: &str) {
    let things = Things::new(Podman::Rootful);
    let root = rootfs(Podman::Rootful, guest);
    let what = root.as_root();
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
    vm.guest_prints(&[
        (&odd, "from the host"),
        ("touch /srv/ro/x 2>&1 | grep -o Read-only.*; cat /srv/ro/file", "Read-only file system\nfrom the host"),
        ("findmnt -n -o SOURCE /srv/ro/inner", "/srv/ro/inner"),
        ("cat /etc/app/config-ro", "one"),
        ("df -k --output=size /srv/tmp | tail -1 | tr -d ' '", "2048"),
        ("blockdev --getsize64 --getro /dev/image", "67108864\n0"),
        ("blockdev --getsize64 --getro /srv/image", "8388608\n1"),
    ]);
    mounted_once(&vm);
    if guest == "ignition" {
        vm.guest_prints(&[("cat /etc/secret; stat -c %u:%a /etc/secret", "s3cret7:400")]);
    }
}

#[test]
fn ignition_guest_has_everything() {
    guest_has_most("ignition", "core");
}

/// systemd 257 mounts from credentials.
#[test]
fn systemd_guest_has_the_mounts() {
    guest_has_most("trixie", "root");
}
