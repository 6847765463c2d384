//! The libvirt domain of a plan. Pure; every path is one inside the container.
//!
//! Runs on the creating side, in crun's process or the runtime executable. The plan is trusted; text in it may come
//! from the user, and the XML writer escapes it.

mod attachments;
mod hostdev;
mod merge;
mod network;
pub mod tree;

use crate::first_boot::guest_setup;
use crate::handoff::paths;
use crate::handoff::supervisor_config::OpenFile;
use crate::host::arch::Arch;
use crate::host::image::Format;
use crate::plan::attachments::DiskSource;
use crate::plan::{Accelerator, BootDisk, BootSource, Firmware, Plan, TRANSLATION_CACHE};
pub use attachments::name as disk_name;
use tree::Element;

/// The domain. `oem_strings` go into the SMBIOS tables, where systemd looks for credentials.
pub fn domain(plan: &Plan, oem_strings: &[String]) -> Element {
    let (kind, cpu) = match plan.accelerator {
        Accelerator::Kvm => ("kvm", "host-passthrough"),
        Accelerator::Tcg => ("qemu", "maximum"),
    };
    Element::new("domain", &[("type", kind), ("xmlns:qemu", QEMU_NAMESPACE)])
        .with([
            Element::text("name", &plan.name),
            Element::text("uuid", &plan.uuid),
            Element::new("memory", &[("unit", "b")]).with_text(plan.memory.to_string()),
        ])
        // virtiofsd maps the guest's memory.
        .with(plan.attachments.has_virtiofs().then(shared_memory))
        .with([
            Element::text("vcpu", plan.vcpus.to_string()),
            smbios(oem_strings),
            firmware_configuration(),
            os(plan.arch, &plan.firmware),
            features(plan.arch, plan.accelerator),
            Element::new("cpu", &[("mode", cpu), ("check", "none")]),
            Element::new("clock", &[("offset", "utc")]),
            Element::text("on_poweroff", "destroy"),
            Element::text("on_reboot", "restart"),
            Element::text("on_crash", "destroy"),
            power_management(),
            devices(plan),
            Element::new("seclabel", &[("type", "none")]),
        ])
        .with(network::user_network(plan))
}

/// The files behind the plan's disks, which QEMU gets as descriptors: it has no permission to open them.
pub fn files(plan: &Plan) -> Vec<OpenFile> {
    let file = |path: &str, read_only| OpenFile { path: path.into(), read_only };
    let boot = match plan.boot {
        BootSource::Disk(BootDisk::Overlay { .. }) => vec![file(paths::OVERLAY, false), file(paths::IMAGE, true)],
        BootSource::Disk(BootDisk::Image(_)) => vec![file(paths::IMAGE, false)],
    };
    let attachments = plan.attachments.disks.iter().filter(|disk| matches!(disk.source, DiskSource::File(_)));
    let attachments = attachments.map(|disk| file(&disk.path(), disk.read_only));
    boot.into_iter().chain([file(paths::SEED, true)]).chain(attachments).collect()
}

/// The source of a disk that is one of [`files()`].
fn open_file(path: &str) -> Element {
    Element::new("source", &[("file", path), (merge::DESCRIPTOR, path)])
}

/// A document to merge into a domain.
pub struct Overrides(Element);

impl Overrides {
    /// Parses it.
    ///
    /// # Errors
    /// It is not XML, or the root element is not `<domain>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Element::parse(text)? {
            root if root.name == "domain" => Ok(Self(root)),
            root => Err(format!("its root element is <{}>, not <domain>", root.name)),
        }
    }

    /// Merges it into `domain`.
    pub fn merge_into(self, domain: &mut Element) {
        domain.merge(self.0);
    }
}

/// What QEMU does when the host fails to write or read a disk that is a host file. A failed write pauses the VM: the
/// reason (full storage, a quota, a lost server) can be removed, and a guest that saw the error would give up its file
/// system. A failed read is reported to the guest: it concerns one place on the disk.
const FILE_ERROR_POLICY: [(&str, &str); 2] = [("error_policy", "stop"), ("rerror_policy", "report")];
/// The same for a block device. The guest sees a broken sector, as on a real machine: it may have a second disk for
/// that. Only a lack of space, below a thin volume, pauses the VM.
const DEVICE_ERROR_POLICY: [(&str, &str); 2] = [("error_policy", "enospace"), ("rerror_policy", "report")];

/// Namespace of the elements that hold QEMU's own options.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

fn shared_memory() -> Element {
    let source = Element::new("source", &[("type", "memfd")]);
    Element::parent("memoryBacking", [source, Element::new("access", &[("mode", "shared")])])
}

fn smbios(oem_strings: &[String]) -> Element {
    let strings = oem_strings.iter().map(|text| Element::text("entry", text));
    Element::new("sysinfo", &[("type", "smbios")]).with([Element::parent("oemStrings", strings)])
}

fn firmware_configuration() -> Element {
    Element::new("sysinfo", &[("type", "fwcfg")]).with([
        Element::new("entry", &[("name", "opt/com.coreos/config"), ("file", paths::IGNITION)]),
        Element::new("entry", &[("name", guest_setup::FIRMWARE_FILE), ("file", paths::SETUP)]),
    ])
}

fn os(arch: &Arch, firmware: &Firmware) -> Element {
    let kind = Element::new("type", &[("arch", arch.name), ("machine", arch.machine)]).with_text("hvm");
    let firmware = match firmware {
        Firmware::Bios => vec![Element::new("bios", &[("useserial", "yes")])],
        Firmware::Uefi(uefi) => vec![
            Element::new("loader", &[("readonly", "yes"), ("type", "pflash")]).with_text(&uefi.code),
            Element::text("nvram", paths::NVRAM),
        ],
    };
    Element::parent("os", [kind])
        .with(firmware)
        .with([Element::new("smbios", &[("mode", "sysinfo")]), Element::new("boot", &[("dev", "hd")])])
}

fn features(arch: &Arch, accelerator: Accelerator) -> Element {
    // The container's memory limit leaves room for a translation cache of this size.
    let cache = || Element::new("tb-cache", &[("unit", "MiB")]).with_text((TRANSLATION_CACHE >> 20).to_string());
    let tcg = (accelerator == Accelerator::Tcg).then(|| Element::parent("tcg", [cache()]));
    Element::parent("features", arch.features.iter().map(|name| Element::new(name, &[]))).with(tcg)
}

/// Without sleep states: nothing would wake the guest.
fn power_management() -> Element {
    let state = |name| Element::new(name, &[("enabled", "no")]);
    Element::parent("pm", [state("suspend-to-mem"), state("suspend-to-disk")])
}

fn devices(plan: &Plan) -> Element {
    let BootSource::Disk(disk) = plan.boot;
    let serial = Element::new("serial", &[("type", "unix")]).with([
        Element::new("source", &[("mode", "connect"), ("path", paths::CONSOLE)]),
        Element::new("target", &[("type", plan.arch.serial), ("port", "0")]),
    ]);
    let random = Element::new("backend", &[("model", "random")]).with_text("/dev/urandom");
    Element::parent(
        "devices",
        [
            Element::text("emulator", &plan.emulator),
            Element::new("controller", &[("type", "usb"), ("model", "none")]),
            boot_disk(disk),
            seed_disk(),
        ],
    )
    .with(attachments::disks(&plan.attachments))
    .with(attachments::file_systems(&plan.attachments))
    .with(network::interface(plan))
    .with(hostdev::hostdevs(plan))
    .with([
        serial,
        Element::new("rng", &[("model", "virtio")]).with([random]),
        Element::new("memballoon", &[("model", "virtio"), ("freePageReporting", "on")]),
        Element::new("panic", &[("model", plan.arch.panic)]),
    ])
}

fn boot_disk(disk: BootDisk) -> Element {
    let no_more = || Element::new("backingStore", &[]);
    let (format, file, backing) = match disk {
        BootDisk::Overlay { image, .. } => {
            let backing = Element::new("backingStore", &[("type", "file")]).with([
                Element::new("format", &[("type", image.name())]),
                open_file(paths::IMAGE),
                no_more(),
            ]);
            (Format::Qcow2, paths::OVERLAY, backing)
        }
        BootDisk::Image(format) => (format, paths::IMAGE, no_more()),
    };
    let mut driver = vec![("name", "qemu"), ("type", format.name()), ("discard", "unmap")];
    driver.extend(FILE_ERROR_POLICY);
    Element::new("disk", &[("type", "file"), ("device", "disk")]).with([
        Element::new("driver", &driver),
        open_file(file),
        backing,
        Element::new("target", &[("dev", "vda"), ("bus", "virtio")]),
    ])
}

fn seed_disk() -> Element {
    Element::new("disk", &[("type", "file"), ("device", "disk")]).with([
        Element::new("driver", &[("name", "qemu"), ("type", "raw")]),
        open_file(paths::SEED),
        Element::new("backingStore", &[]),
        Element::new("target", &[("dev", "vdb"), ("bus", "virtio")]),
        Element::new("readonly", &[]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount_sources::Sources;
    use crate::plan::plan;
    use crate::plan::tests::{BIOS_IMAGE, ID, host, request};
    use crate::request::options::FirmwareChoice;

    fn xml(plan: &Plan, oem_strings: &[String]) -> String {
        domain(plan, oem_strings).document()
    }

    /// `BLESS=1 cargo test` rewrites the golden files.
    fn compare(name: &str, got: &str) {
        let path = format!("{}/tests/golden/{name}.xml", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, got).unwrap();
        }
        assert_eq!(got, std::fs::read_to_string(&path).unwrap(), "{name}");
    }

    #[test]
    fn golden() {
        let sources = Sources::default();
        let kvm = plan(ID, &request(), &host(), BIOS_IMAGE, &sources).unwrap();
        compare("kvm-bios-tap", &xml(&kvm, &["io.systemd.credential:x=y".into()]));
        let mut shared = request();
        shared.network = crate::request::NetworkOwner::Shared("/n".into());
        compare("kvm-bios-shared", &xml(&plan(ID, &shared, &host(), BIOS_IMAGE, &sources).unwrap(), &[]));
        let mut emulated = request();
        emulated.options.emulated = true;
        emulated.options.firmware = FirmwareChoice::Uefi;
        emulated.network = crate::request::NetworkOwner::Foreign;
        emulated.options.ports = crate::request::ports::parse("80/tcp,53").unwrap();
        let image = crate::plan::ImageFacts { format: Format::Raw, ..BIOS_IMAGE };
        compare(
            "tcg-uefi-user",
            &xml(&plan(ID, &emulated, &host(), image, &sources).unwrap(), &["io.systemd.credential:x=y".into()]),
        );
    }

    #[test]
    fn golden_persistent() {
        let mut request = request();
        (request.options.persistent, request.options.format) = (true, Some(Format::Raw));
        let image = crate::plan::ImageFacts { format: Format::Raw, ..BIOS_IMAGE };
        compare("kvm-persistent", &xml(&plan(ID, &request, &host(), image, &Sources::default()).unwrap(), &[]));
    }

    #[test]
    fn golden_passthrough() {
        let mut host = host();
        host.memlock = u64::MAX;
        host.pci = crate::host::pci::tests::devices();
        compare("kvm-hostdevs", &xml(&plan(ID, &request(), &host, BIOS_IMAGE, &Default::default()).unwrap(), &[]));
    }

    #[test]
    fn merging_leaves_the_rest_unchanged() {
        let golden =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kvm-hostdevs.xml")).unwrap();
        let merged = |text: &str| {
            let mut domain = Element::parse(&golden).unwrap();
            Overrides::parse(text).unwrap().merge_into(&mut domain);
            domain.document()
        };
        assert_eq!(merged("<domain/>"), golden);
        assert_eq!(merged("<domain><vcpu>2</vcpu></domain>"), golden.replace("<vcpu>4</vcpu>", "<vcpu>2</vcpu>"));
        let error = Overrides::parse("<network/>").err().unwrap();
        assert_eq!(error, "its root element is <network>, not <domain>");
    }

    #[test]
    fn outside_text_is_escaped() {
        let sources = Sources::default();
        let mut plan = plan(ID, &request(), &host(), BIOS_IMAGE, &sources).unwrap();
        plan.name = "<&>".into();
        plan.mac = "\"'<".into();
        let text = xml(&plan, &[]);
        assert!(text.contains("<name>&lt;&amp;&gt;</name>") && text.contains("address=\"&quot;&apos;&lt;\""), "{text}");
    }
}
