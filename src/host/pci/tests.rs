use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const UUID: &str = "c2e088ba-954f-11ec-8584-525400666f2b";
const HOW: &str = "driverctl set-override 0000:01:00.0 vfio-pci; or write vfio-pci into its driver_override, its address \
                   into driver/unbind and into /sys/bus/pci/drivers_probe";

pub(crate) fn devices() -> Vec<Device> {
    let group = |number, minor| Group { number, major: 511, minor };
    let pci = |function| Address::Pci { domain: 0, bus: 1, slot: 0x1f, function };
    vec![
        Device { address: pci(0), group: group(7, 0) },
        Device { address: pci(2), group: group(7, 0) },
        Device { address: Address::Mdev(UUID.into()), group: group(12, 1) },
    ]
}

/// A sysfs and a devtmpfs with as much in them as is looked at.
struct Fake(TempDir);

impl Fake {
    fn new() -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        for node in ["vfio", "7", "12"] {
            fake.link(&format!("dev/vfio/{node}"), "/dev/null");
        }
        fake.device("0000:01:00.0", "0x030000", Some("vfio-pci"), Some(7));
        fake
    }

    fn at(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// In place of what is there.
    fn link(&self, path: &str, target: impl AsRef<Path>) {
        let _ = fs::remove_file(self.at(path));
        symlink(target, self.at(path)).unwrap();
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    fn device(&self, id: &str, class: &str, driver: Option<&str>, group: Option<u32>) {
        let place = format!("sys/devices/pci0000:00/{id}");
        self.write(&format!("{place}/class"), &format!("{class}\n"));
        self.write(&format!("{place}/vendor"), "0x10de\n");
        self.bind(id, driver);
        self.link(&format!("sys/bus/pci/devices/{id}"), self.at(&place));
        if let Some(group) = group {
            self.join(&place, group);
        }
    }

    fn bind(&self, id: &str, driver: Option<&str>) {
        let link = format!("sys/devices/pci0000:00/{id}/driver");
        let _ = fs::remove_file(self.at(&link));
        if let Some(driver) = driver {
            self.link(&link, format!("../../../bus/pci/drivers/{driver}"));
        }
    }

    fn join(&self, device: &str, group: u32) {
        let place = format!("sys/kernel/iommu_groups/{group}");
        self.link(&format!("{place}/devices/{}", name(Path::new(device))), self.at(device));
        self.link(&format!("{device}/iommu_group"), self.at(&place));
    }

    fn mdev(&self, uuid: &str, api: &str) {
        let parent = "sys/devices/pci0000:00/0000:00:02.0";
        self.write(&format!("{parent}/mdev_supported_types/i915-GVTg_V5_4/device_api"), &format!("{api}\n"));
        let place = format!("{parent}/{uuid}");
        self.link(&format!("{place}/mdev_type"), self.at(&format!("{parent}/mdev_supported_types/i915-GVTg_V5_4")));
        self.link(&format!("{place}/driver"), "../../../../bus/mdev/drivers/intel_vgpu_mdev");
        self.link(&format!("sys/bus/mdev/devices/{uuid}"), self.at(&place));
        self.join(&place, 12);
    }

    fn find(&self, option: &str, path: &str) -> std::result::Result<Device, String> {
        let root = self.0.path().canonicalize().unwrap();
        let places = Places { sys: &root.join("sys"), dev: &root.join("dev") };
        let path = if path.starts_with("sys/") { root.join(path) } else { path.into() };
        let strip = |text: String| text.replace(&format!("{}/", root.display()), "/");
        places.find(option, &path).map_err(|e| strip(e.to_string()))
    }

    fn whole(&self) -> std::result::Result<Device, String> {
        self.find(WHOLE, "sys/bus/pci/devices/0000:01:00.0")
    }
}

fn failure(path: &str, rest: &str) -> std::result::Result<Device, String> {
    Err(format!("--vfio-pci {path}: {rest}"))
}

fn refused(rest: &str) -> std::result::Result<Device, String> {
    failure("/sys/bus/pci/devices/0000:01:00.0", rest)
}

fn in_group(address: Address, number: u32) -> std::result::Result<Device, String> {
    // The numbers of /dev/null.
    Ok(Device { address, group: Group { number, major: 1, minor: 3 } })
}

#[test]
fn devices_that_can_be_passed_on() {
    let fake = Fake::new();
    let want = in_group(Address::Pci { domain: 0, bus: 1, slot: 0, function: 0 }, 7);
    assert_eq!(fake.whole(), want);
    assert_eq!(fake.find(WHOLE, "sys/devices/pci0000:00/0000:01:00.0"), want);
    // None of these keeps the kernel from handing the group out.
    for (n, driver) in [Some("vfio-pci"), Some("mlx5_vfio_pci"), Some("pci-stub"), None].into_iter().enumerate() {
        fake.device(&format!("0000:01:00.{}", n + 1), "0x020000", driver, Some(7));
    }
    fake.device("0000:00:01.0", "0x060400", Some("pcieport"), Some(7));
    assert_eq!(fake.whole(), want);
    fake.mdev(UUID, "vfio-pci");
    for place in ["sys/bus/mdev/devices", "sys/devices/pci0000:00/0000:00:02.0"] {
        assert_eq!(fake.find(MEDIATED, &format!("{place}/{UUID}")), in_group(Address::Mdev(UUID.into()), 12));
    }
}

#[test]
fn a_path_has_to_lead_to_a_device() {
    let fake = Fake::new();
    let form = "(a device is named like /sys/bus/pci/devices/0000:01:00.0)";
    for path in ["0000:01:00.0", "/etc", "/dev/vfio/7"] {
        assert_eq!(fake.find(WHOLE, path), failure(path, &format!("not a path below /sys {form}")));
    }
    let path = "sys/bus/../../etc/passwd";
    assert_eq!(fake.find(WHOLE, path), failure(&format!("/{path}"), &format!("not a path below /sys {form}")));
    let path = "sys/bus/pci/devices/0000:09:00.0";
    let nothing = "no such device (/sys/bus/pci/devices lists the devices)";
    assert_eq!(fake.find(WHOLE, path), failure(&format!("/{path}"), nothing));
    fake.link(path, "/etc");
    let elsewhere = format!("it does not lead to a device in /sys/devices {form}");
    assert_eq!(fake.find(WHOLE, path), failure(&format!("/{path}"), &elsewhere));
    fake.write("sys/devices/virtual/misc/kvm/dev", "10:232");
    let other = "not a PCI device (a device is named like /sys/bus/pci/devices/0000:01:00.0)";
    for path in ["sys/devices/virtual/misc/kvm", "sys/devices/pci0000:00"] {
        assert_eq!(fake.find(WHOLE, path), failure(&format!("/{path}"), other));
    }
}

#[test]
fn a_device_that_the_host_uses_is_not_taken() {
    let fake = Fake::new();
    fake.bind("0000:01:00.0", Some("nouveau"));
    assert_eq!(fake.whole(), refused(&format!("the host uses it with the driver nouveau, not vfio-pci ({HOW})")));
    fake.bind("0000:01:00.0", None);
    assert_eq!(fake.whole(), refused(&format!("it is not bound to vfio-pci, nor to any driver ({HOW})")));
    fake.bind("0000:01:00.0", Some("vfio-pci"));
    fake.device("0000:01:00.2", "0x0c0330", Some("xhci_hcd"), Some(7));
    fake.device("0000:01:00.1", "0x040300", Some("snd_hda_intel"), Some(7));
    fake.device("0000:01:00.3", "0x0c8000", Some("vfio-pci"), Some(7));
    assert_eq!(
        fake.whole(),
        refused(
            "its IOMMU group 7 has devices that the host uses: 0000:01:00.1 (snd_hda_intel), 0000:01:00.2 (xhci_hcd) \
             (a group is passed through as a whole: bind them to vfio-pci too)"
        )
    );
}

#[test]
fn what_the_kernel_has_to_offer() {
    let fake = Fake::new();
    fake.device("0000:02:00.0", "0x030000", Some("vfio-pci"), None);
    assert_eq!(
        fake.find(WHOLE, "sys/bus/pci/devices/0000:02:00.0"),
        failure(
            "/sys/bus/pci/devices/0000:02:00.0",
            "it is in no IOMMU group, so it could access all of the host's memory (switch the IOMMU on: in the \
             firmware, and with intel_iommu=on on the kernel's command line)"
        )
    );
    fs::remove_file(fake.at("dev/vfio/7")).unwrap();
    assert_eq!(fake.whole(), refused("/dev/vfio/7: not there (modprobe vfio-pci)"));
    fake.write("dev/vfio/7", "");
    assert_eq!(fake.whole(), refused("/dev/vfio/7: not a device (modprobe vfio-pci)"));
    fs::remove_file(fake.at("dev/vfio/vfio")).unwrap();
    assert_eq!(fake.whole(), refused("/dev/vfio/vfio: not there (modprobe vfio-pci)"));
}

#[test]
fn mediated_devices_are_pci_ones_with_a_uuid() {
    let fake = Fake::new();
    fake.mdev(UUID, "vfio-ccw");
    let find = |name: &str| fake.find(MEDIATED, &format!("sys/bus/mdev/devices/{name}")).unwrap_err();
    let path = format!("--vfio-pci-mdev /sys/bus/mdev/devices/{UUID}");
    assert_eq!(
        find(UUID),
        format!("{path}: it is a vfio-ccw device, not a PCI one (only PCI devices can be passed on)")
    );
    fake.mdev("mine", "vfio-pci");
    let want = "--vfio-pci-mdev /sys/bus/mdev/devices/mine: \"mine\" is not a UUID \
                (the name of a mediated device is one)";
    assert_eq!(find("mine"), want);
    let want = "--vfio-pci-mdev /sys/bus/pci/devices/0000:01:00.0: not a mediated device (one is made by writing a \
                UUID into mdev_supported_types/TYPE/create of a PCI device that can do it)";
    assert_eq!(fake.find(MEDIATED, "sys/bus/pci/devices/0000:01:00.0"), Err(want.into()));
}

#[test]
fn names_of_devices() {
    for (id, want) in [
        ("0000:01:1f.7", Some((0, 1, 0x1f, 7))),
        ("10000:e1:00.0", Some((0x10000, 0xe1, 0, 0))),
        ("0000:01:00", None),
        ("0000:01.0", None),
        ("0000:01:00:00.0", None),
        ("0000:100:00.0", None),
        ("0000:01:zz.0", None),
    ] {
        let want = want.map(|(domain, bus, slot, function)| Address::Pci { domain, bus, slot, function });
        assert_eq!(parse(id), want, "{id}");
        if let Some(address) = want {
            assert_eq!(address.name(), id);
        }
    }
}
