use serde_json::{Value, json};

use super::*;
use crate::engine::Engine;
use crate::host::mount_sources::Node;
use crate::plan::attachments::Attachments;

const DISK: BlockDevice = BlockDevice { major: 7, minor: 3, read_only: false, node: Node { mode: 0o660, gid: 6 } };

/// A request of podman's with these mounts.
fn request(mounts: Value) -> Request {
    let config = json!({
        "ociVersion": "1.0.2", "process": {"cwd": "/", "args": [""], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "/r"}, "mounts": mounts, "linux": {},
        "annotations": {"io.container.manager": "libpod"},
    });
    Request::parse(&config.to_string()).unwrap()
}

/// What becomes of one mount of the user's, its source being this.
fn one(target: &str, source: Source, options: &[&str]) -> Result<Attachments> {
    let options: Vec<&str> = options.iter().chain(&["rbind"]).copied().collect();
    let mounts = json!([{"destination": target, "type": "bind", "source": "/s", "options": options}]);
    sort(&request(mounts), &Sources { mounts: vec![source], devices: vec![] })
}

#[track_caller]
fn refused(got: Result<Attachments>, want: &str) {
    assert_eq!(got.map_err(|e| e.to_string()), Err(want.to_string()));
}

#[test]
fn an_image_cannot_forge_what_is_the_kernels() {
    for (mount, want) in [
        (json!({"destination": "/proc", "type": "proc", "source": "proc"}), true),
        (json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}), true),
        (json!({"destination": "/dev/fuse", "type": "bind", "source": "/dev/fuse", "options": ["bind"]}), true),
        (json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}), true),
        (json!({"destination": "/proc", "type": "bind", "source": "/s/volumes/x", "options": ["rbind"]}), false),
        (json!({"destination": "/dev/net", "type": "bind", "source": "/s/volumes/x", "options": ["rbind"]}), false),
        (json!({"destination": "/sys/fs", "type": "none", "source": "/s/volumes/x", "options": ["rbind"]}), false),
        (json!({"destination": "/proc/1", "type": "tmpfs", "source": "tmpfs"}), false),
    ] {
        let sources = Sources { mounts: vec![Source::Directory], devices: vec![] };
        for engine in [Engine::Podman, Engine::Unnamed] {
            let mut request = request(json!([mount]));
            request.engine = engine;
            match sort(&request, &sources) {
                Ok(attachments) => assert!(want && attachments.kept == [0], "{mount}"),
                Err(e) => assert!(!want && e.to_string().ends_with("the guest has its own there"), "{mount}: {e}"),
            }
        }
    }
}

#[test]
fn what_all_can_write_to_is_nobodys() {
    for mount in [
        json!({"destination": "/dev/shm", "type": "bind", "source": "/s/userdata/shm", "options": ["bind"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}),
    ] {
        let sources = Sources { mounts: vec![Source::Directory], devices: vec![] };
        assert_eq!(sort(&request(json!([mount])), &sources).unwrap(), Attachments::default(), "{mount}");
    }
    let users = one("/dev/shm", Source::Directory, &[]);
    refused(users, "mount /dev/shm: the guest has its own there");
}

#[test]
fn each_kind_has_its_way() {
    let share = one("/a b/c", Source::Directory, &["ro"]).unwrap();
    assert_eq!(share.shares, [Share { number: 0, mount: 0, target: "/a b/c".into(), read_only: true, flags: vec![] }]);
    let file = one("/etc/x", Source::File, &["rbind", "noexec"]).unwrap();
    assert_eq!(
        file.files,
        [SharedFile {
            number: 0,
            mount: 0,
            target: "/etc/x".into(),
            read_only: false,
            flags: vec!["noexec"],
            secret: false
        }]
    );
    // The user's own, whatever its path.
    assert!(!one("/run/secrets/x", Source::File, &[]).unwrap().files[0].secret);
    let podmans =
        json!([{"destination": "/x", "type": "bind", "source": "/s/userdata/secrets/x", "options": ["bind"]}]);
    let secret = sort(&request(podmans), &Sources { mounts: vec![Source::File], devices: vec![] }).unwrap();
    assert!(secret.files[0].secret && secret.files[0].read_only);
    let disk = one("/dev/x", Source::Block(DISK), &["ro"]).unwrap();
    let want = Disk {
        number: 0,
        source: DiskSource::Mounted(0, DISK),
        target: "/dev/x".into(),
        format: Format::Raw,
        read_only: true,
    };
    assert_eq!(disk.disks, [want]);
    // The user's own, not the engine's.
    assert_eq!(one("/etc/hosts", Source::File, &[]).unwrap().files.len(), 1);
}

#[test]
fn a_long_path_has_a_tag_of_its_own() {
    let long = format!("/{}", "x".repeat(36));
    assert_eq!(one(&long[..36], Source::Directory, &[]).unwrap().shares[0].tag(), long[..36]);
    assert_eq!(one(&long, Source::Directory, &[]).unwrap().shares[0].tag(), "virtiofs-0");
    for odd in ["/a\nb", "/a\x01", "/\u{fffe}"] {
        assert_eq!(one(odd, Source::Directory, &[]).unwrap().shares[0].tag(), "virtiofs-0", "{odd:?}");
    }
}

#[test]
fn names_do_not_depend_on_the_order_of_the_mounts() {
    let mount = |target: &str| json!({"destination": target, "type": "bind", "source": "/s", "options": ["rbind"]});
    let targets = ["/f1", "/d1", "/b1", "/f0", "/d0", "/b0"];
    let kinds = [Source::File, Source::Directory, Source::Block(DISK)];
    let paths = |order: &[usize]| {
        let mounts: Vec<Value> = order.iter().map(|n| mount(targets[*n])).collect();
        let sources = order.iter().map(|n| kinds[n % 3].clone()).collect();
        let attachments = sort(&request(json!(mounts)), &Sources { mounts: sources, devices: vec![] }).unwrap();
        let shares = attachments.shares.iter().map(|s| (s.target.clone(), s.path()));
        let files = attachments.files.iter().map(|f| (f.target.clone(), f.path()));
        shares.chain(files).chain(attachments.disks.iter().map(|d| (d.target.clone(), d.path()))).collect::<Vec<_>>()
    };
    let want = paths(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(want[0], ("/d0".into(), "/crun-qemu/mounts/share-0".into()));
    assert_eq!(want[5], ("/b1".into(), "/crun-qemu/disks/1".into()));
    assert_eq!(paths(&[5, 3, 1, 4, 2, 0]), want);
}

#[test]
fn podmans_own_mounts_are_not_the_guests() {
    let tmpfs = |path: &str, options: &[&str]| json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options});
    let defaults = ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"];
    let mounts = json!([
        tmpfs("/run", &defaults),
        tmpfs("/tmp", &defaults),
        tmpfs("/var/tmp", &["size=1m", "rw", "rprivate", "nosuid", "nodev"]),
        {"destination": "/etc/hosts", "type": "bind", "source": "/s/userdata/hosts", "options": ["bind", "rprivate"]},
        {"destination": "/run/secrets", "type": "bind", "source": "/s/userdata/run/secrets", "options": ["bind"]},
    ]);
    let sources = Sources {
        mounts: [vec![Source::Directory; 3], vec![Source::File, Source::Directory]].concat(),
        devices: vec![],
    };
    let mut request = request(mounts);
    let targets = |request: &Request| {
        let attachments = sort(request, &sources).unwrap();
        assert_eq!((attachments.kept, attachments.engine_files), (vec![], vec![(3, "/etc/hosts".into())]));
        attachments.tmpfs
    };
    let var_tmp = Tmpfs {
        target: "/var/tmp".into(),
        options: ["size=1m", "rw", "nosuid", "nodev"].map(String::from).into(),
        copy_up: false,
    };
    let all = targets(&request);
    assert_eq!((all.len(), all[0].target.as_str(), all[0].copy_up, &all[1]), (2, "/tmp", true, &var_tmp));
    request.root_readonly = true;
    assert_eq!(targets(&request), [var_tmp]);
}

#[test]
fn devices() {
    let node = DISK.node;
    let device =
        |path: &str, is_block, writable| Device { path: path.into(), is_block, major: 7, minor: 3, writable, node };
    let of = |device: Device, source: Option<BlockDevice>, all: bool| {
        let mut request = request(json!([]));
        (request.devices, request.all_devices) = (vec![device], all);
        sort(&request, &Sources { mounts: vec![], devices: vec![source] })
    };
    let disk = of(device("/in/guest", true, false), Some(DISK), false).unwrap().disks.remove(0);
    assert_eq!(
        (disk.source, disk.read_only, disk.path()),
        (DiskSource::Device(0, DISK), true, "/dev/crun-qemu/0".into())
    );
    assert_eq!(of(device("/dev/sda", true, true), Some(DISK), true).unwrap(), Attachments::default(), "--privileged");
    assert_eq!(of(device("/dev/kvm", false, true), None, false).unwrap(), Attachments::default());
    refused(
        of(device("/dev/fuse", false, true), None, false),
        "--device /dev/fuse: a host character device has no meaning in a guest \
         (block devices are passed as disks, PCI devices by --vfio-pci)",
    );
    refused(of(device("/x", true, true), None, false), "--device /x: there is no block device 7:3");
    let read_only = BlockDevice { read_only: true, ..DISK };
    let why = "the block device is read-only, and writing was asked for";
    refused(
        of(device("/x", true, true), Some(read_only), false),
        &format!("--device /x: {why} (--device SOURCE:TARGET:r)"),
    );
    refused(one("/x", Source::Block(read_only), &[]), &format!("mount /x: {why} (-v SOURCE:TARGET:ro)"));
    refused(
        one("/dev/fuse", Source::CharDevice, &[]),
        "mount /dev/fuse: a host character device has no meaning in a guest \
         (block devices are passed as disks, PCI devices by --vfio-pci)",
    );
}

#[test]
fn what_cannot_be_a_guests() {
    refused(one("/x", Source::Other("a socket"), &[]), "mount /x: its source is a socket, which a guest cannot use");
    refused(
        one("/x", Source::Unusable("it is not there".into()), &[]),
        "mount /x: its source cannot be used: it is not there",
    );
    refused(one("/run", Source::Directory, &[]), "mount /run: the guest has its own there");
    refused(one("/sys/x", Source::File, &[]), "mount /sys/x: the guest has its own there");
    refused(one("/a/../b", Source::Directory, &[]), "mount /a/../b: not an absolute path without \"..\"");
    let long = format!("/{}", "x".repeat(256));
    refused(
        one(&long, Source::Directory, &[]),
        &format!("mount {long}: a name of 256 bytes, and no guest supports more than 255"),
    );
}

#[test]
fn images_that_become_disks() {
    let with = |blockdev: &str, source: Source, options: &[&str]| {
        let mounts = json!([{"destination": "/i", "type": "bind", "source": "/s", "options": options}]);
        let mut request = request(mounts);
        request.options.blockdevs.push(crate::request::blockdev::parse(blockdev).unwrap());
        sort(&request, &Sources { mounts: vec![source], devices: vec![] })
    };
    let attachments = with("source=/i,target=/x,format=qcow2", Source::File, &["rbind"]).unwrap();
    assert_eq!(
        (attachments.files.len(), attachments.disks[0].source, attachments.disks[0].format),
        (0, DiskSource::File(0), Format::Qcow2)
    );
    refused(
        with("source=/j,target=/x,format=raw", Source::File, &["rbind"]),
        "--blockdev source=/j: the engine granted no such file (-v FILE:/j)",
    );
    refused(
        with("source=/i,target=/x,format=raw", Source::Directory, &["rbind"]),
        "--blockdev source=/i: not a regular file (block devices need -v or --device alone)",
    );
    refused(
        with("source=/i,target=/x,format=raw", Source::File, &["rbind", "ro"]),
        "--blockdev source=/i: the mount is read-only, and writing was asked for (readonly=on)",
    );
    let mut again = request(json!([{"destination": "/i", "type": "bind", "source": "/s", "options": ["rbind"]}]));
    for target in ["/x", "/y"] {
        let text = format!("source=/i,target={target},format=raw");
        again.options.blockdevs.push(crate::request::blockdev::parse(&text).unwrap());
    }
    refused(
        sort(&again, &Sources { mounts: vec![Source::File], devices: vec![] }),
        "--blockdev source=/i: it is a disk already (give a copy, or an overlay of its own)",
    );
    let twice = json!([
        {"destination": "/i", "type": "bind", "source": "/s", "options": ["rbind"]},
        {"destination": "/x", "type": "bind", "source": "/s", "options": ["rbind"]},
    ]);
    let mut request = request(twice);
    request.options.blockdevs.push(crate::request::blockdev::parse("source=/i,target=/x,format=raw").unwrap());
    let sources = Sources { mounts: vec![Source::File, Source::Directory], devices: vec![] };
    refused(sort(&request, &sources), "/x: two mounts or devices have this path in the guest");
}
