//! PCI devices for the guest. Test machines have none to pass through: errors are tested with the real sysfs, success
//! with a simulated one and up to the call of crun.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Form, Podman, Run, directory, mount_namespace, rootfs, text};

/// A device that the host uses, and its driver.
fn used_device() -> Option<(PathBuf, String)> {
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    devices.into_iter().find_map(|device| {
        let driver = fs::read_link(device.path().join("driver")).ok()?;
        let driver = driver.file_name()?.to_str()?.to_string();
        (driver != "vfio-pci").then(|| (device.path(), driver))
    })
}

#[test]
fn unusable_devices_are_refused() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let form = "(a device is named like /sys/bus/pci/devices/0000:01:00.0)";
    let uuid = "/sys/bus/mdev/devices/c2e088ba-954f-11ec-8584-525400666f2b";
    let mut table = vec![
        ("--vfio-pci", "/etc/passwd".to_string(), format!("not a path below /sys {form}")),
        ("--vfio-pci", "/sys/../etc/passwd".into(), format!("not a path below /sys {form}")),
        ("--vfio-pci", "/sys/bus/pci".into(), format!("it does not lead to a device in /sys/devices {form}")),
        (
            "--vfio-pci",
            "/sys/devices/virtual/mem/null".into(),
            "not a PCI device (a device is named like /sys/bus/pci/devices/0000:01:00.0)".into(),
        ),
        (
            "--vfio-pci",
            "/sys/bus/pci/devices/ffff:ff:1f.7".into(),
            "no such device (/sys/bus/pci/devices lists the devices)".into(),
        ),
        ("--vfio-pci-mdev", uuid.into(), "no such device (/sys/bus/mdev/devices lists the devices)".into()),
        (
            "--vfio-pci-mdev",
            "/sys/devices/virtual/mem/null".into(),
            "not a mediated device (one is made by writing a UUID into mdev_supported_types/TYPE/create of a PCI device \
             that can do it)"
                .into(),
        ),
    ];
    if let Some((device, driver)) = used_device() {
        let id = device.file_name().unwrap().to_str().unwrap();
        let how = format!(
            "(driverctl set-override {id} vfio-pci; or write vfio-pci into its driver_override, its address into \
             driver/unbind and into /sys/bus/pci/drivers_probe)"
        );
        let why = format!("the host uses it with the driver {driver}, not vfio-pci {how}");
        table.push(("--vfio-pci", device.to_str().unwrap().into(), why));
    }
    for (option, path, why) in &table {
        let options = [*option, path.as_str()];
        let run =
            Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &[], what: &what, options: &options };
        let (status, stderr) = run.foreground();
        let line = format!("qemu: {option} {path}: {why}");
        assert!(status == Some(126) && stderr.trim().ends_with(&line), "{stderr}\nexpected: {line}");
    }
}

/// Simulates two devices, makes `$0` the policy, replaces crun by a program that does nothing, and runs its arguments.
const SIMULATED: &str = r#"
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/dev/vfio /mnt/etc/crun-qemu /mnt/work/dev /mnt/work/etc
echo "$0" >/mnt/etc/crun-qemu/policy
mknod /mnt/dev/vfio/vfio c 1 3
mknod /mnt/dev/vfio/7 c 1 5
mount -t overlay -o lowerdir=/dev,upperdir=/mnt/dev,workdir=/mnt/work/dev overlay /dev
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/work/etc overlay /etc
[ ! -d /sys/bus/pci/devices ] || mount -t tmpfs tmpfs /sys/bus/pci/devices
place=/sys/devices/virtual/misc
mount -t tmpfs tmpfs $place
mkdir -p $place/group/7/devices
for id in 0000:65:00.0 0000:65:00.1; do
    mkdir $place/$id
    echo 0x1002 >$place/$id/vendor
    echo 0x030000 >$place/$id/class
    ln -s /sys/bus/pci/drivers/vfio-pci $place/$id/driver
    ln -s $place/group/7 $place/$id/iommu_group
    ln -s $place/$id $place/group/7/devices/
done
mount --bind /bin/true "$(readlink -f "$(command -v crun)")"
exec "$@"
"#;

#[test]
fn vm_gets_the_devices_with_their_group() {
    let (bundle, root) = (directory(), rootfs(Podman::Rootful, "tiny"));
    let place = "/sys/devices/virtual/misc";
    let (first, second) = (format!("{place}/0000:65:00.0"), format!("{place}/0000:65:00.1"));
    let create_with = |annotations: serde_json::Value, policy: &str, memlock: u64, devices: &[&String]| {
        let args: Vec<&str> =
            ["", "--emulated"].into_iter().chain(devices.iter().flat_map(|d| ["--vfio-pci", d])).collect();
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": args, "user": {"uid": 0, "gid": 0},
                        "rlimits": [{"type": "RLIMIT_MEMLOCK", "hard": memlock, "soft": 0}]},
            "root": {"path": root.path()},
            "annotations": annotations,
            "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}],
                      "resources": {"memory": {"limit": 64 << 20}, "devices": [{"allow": false, "access": "rwm"}]}},
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let mut command = mount_namespace(SIMULATED);
        command.args([policy, env!("CARGO_BIN_EXE_crun-qemu"), "create", "--bundle"]).arg(bundle.path());
        let output = command.arg("0123456789ab").output().unwrap();
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr).trim().to_string()) }
    };
    let create =
        |policy: &str, memlock, devices: &[&String]| create_with(serde_json::json!({}), policy, memlock, devices);
    let refused = |line: &str| Err(format!("qemu: {line}"));
    let annotation = serde_json::json!({"run.oci.qemu.vfio-pci": first});
    let error = create_with(annotation.clone(), "", u64::MAX, &[]).unwrap_err();
    let want =
        "qemu: --vfio-pci: no policy allows handing out PCI devices by annotation (write the line vfio = allow into ";
    assert!(error.starts_with(want), "{error}");
    assert_eq!(create_with(annotation, "vfio = allow", u64::MAX, &[]), Ok(()));
    fs::remove_dir_all(bundle.join("crun-qemu")).unwrap();
    assert_eq!(
        create("vfio = deny", u64::MAX, &[&first]),
        refused(
            "--vfio-pci: /etc/crun-qemu/policy denies handing out PCI devices (line 1 of it would have to be: vfio = allow)"
        )
    );
    assert_eq!(
        create("", 1 << 30, &[&first]),
        refused(
            "locked memory: a PCI device needs the guest's memory locked, 1088 MiB with what belongs to it, and 1048576 \
             KiB may be (--ulimit memlock=-1)"
        )
    );
    assert_eq!(create("", u64::MAX, &[&first, &first]), refused("PCI device 0000:65:00.0: given twice"));
    assert!(!bundle.join("crun-qemu").exists());

    assert_eq!(create("", (64 << 20) + (1 << 30), &[&first, &second]), Ok(()));
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(bundle.join("crun-qemu").join(name)).unwrap()).unwrap()
    };
    let config = read("config.json");
    let mounts = config["mounts"].as_array().unwrap().iter().map(|mount| mount["source"].as_str().unwrap());
    let vfio: Vec<_> = mounts.filter(|source| Path::new(source).starts_with("/dev/vfio")).collect();
    assert_eq!(vfio, ["/dev/vfio/vfio", "/dev/vfio/7"]);
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    let rule = serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rw"});
    assert_eq!(rules.iter().filter(|r| **r == rule).count(), 1, "{rules:?}");
    let config = read("root/crun-qemu/supervisor.json");
    let domain = config["domain"].as_str().unwrap();
    for function in 0..2 {
        let address = format!(r#"<address domain="0x0000" bus="0x65" slot="0x00" function="{function:#x}"/>"#);
        assert_eq!(domain.matches(&address).count(), 1, "{domain}");
    }
}
