//! The libvirt domain of a plan. Pure; every path is one inside the container.

mod attachments;
mod hostdev;
mod merge;
mod network;
mod tree;
mod xml;

use std::io;

use crate::first_boot::guest_setup;
use crate::handoff::paths;
use crate::handoff::supervisor_config::OpenFile;
use crate::host::image::Format;
use crate::plan::attachments::DiskSource;
use crate::plan::{Accelerator, BootDisk, Firmware, Plan, TRANSLATION_CACHE};
pub use attachments::name as disk_name;
use tree::Element;
use xml::Xml;

/// The XML document. `oem_strings` go into the SMBIOS tables, where systemd looks for credentials.
pub fn xml(plan: &Plan, oem_strings: &[String]) -> String {
    let mut xml = Xml::new();
    // Writing into a Vec cannot fail.
    let _ = domain(&mut xml, plan, oem_strings);
    xml.finish()
}

/// The files behind the plan's disks, which the domain knows by descriptors: QEMU has no right to them but that.
pub fn files(plan: &Plan) -> Vec<OpenFile> {
    let file = |path: &str, read_only| OpenFile { path: path.into(), read_only };
    let boot = match plan.disk {
        BootDisk::Overlay { .. } => vec![file(paths::OVERLAY, false), file(paths::IMAGE, true)],
        BootDisk::Image(_) => vec![file(paths::IMAGE, false)],
    };
    let attachments = plan.attachments.disks.iter().filter(|disk| matches!(disk.source, DiskSource::File(_)));
    let attachments = attachments.map(|disk| file(&disk.path(), disk.read_only));
    boot.into_iter().chain([file(paths::SEED, true)]).chain(attachments).collect()
}

/// A source that is one of [`files()`].
fn open_file(xml: &mut Xml, path: &str) -> io::Result<()> {
    xml.empty("source", &[("file", path), (merge::DESCRIPTOR, path)])
}

/// A document to be laid over a domain.
pub struct Overrides(Element);

impl Overrides {
    /// Reads it; on failure says what is wrong with it.
    ///
    /// # Errors
    /// It is not XML, or the root element is not `<domain>`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Element::parse(text)? {
            root if root.name == "domain" => Ok(Self(root)),
            root => Err(format!("its root element is <{}>, not <domain>", root.name)),
        }
    }

    /// Lays it over `domain`, which is ours.
    ///
    /// # Errors
    /// `domain` is not XML.
    pub fn over(self, domain: &str) -> Result<String, String> {
        let mut domain = Element::parse(domain)?;
        domain.lay_over(self.0);
        Ok(domain.document())
    }
}

/// What a failure of the host's does to a disk that is a file of the host's. A write fails because storage is full, a
/// quota is reached, a server is gone: somebody can mend that, and until then the VM is paused, as a guest that were told
/// would give up its file system. What cannot be read is told: it concerns that place of the disk alone.
const ON_ERROR_OF_FILES: [(&str, &str); 2] = [("error_policy", "stop"), ("rerror_policy", "report")];
/// What it does to a block device. The guest is told of a broken sector, as on a real machine: it may have a second disk
/// for that. Only a lack of space, below a thin volume, pauses the VM.
const ON_ERROR_OF_DEVICES: [(&str, &str); 2] = [("error_policy", "enospace"), ("rerror_policy", "report")];

/// Of the elements that hold QEMU's own options.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

fn domain(xml: &mut Xml, plan: &Plan, oem_strings: &[String]) -> io::Result<()> {
    let (kind, cpu) = match plan.accelerator {
        Accelerator::Kvm => ("kvm", "host-passthrough"),
        Accelerator::Tcg => ("qemu", "maximum"),
    };
    xml.parent("domain", &[("type", kind), ("xmlns:qemu", QEMU_NAMESPACE)], |xml| {
        xml.text("name", &[], &plan.name)?;
        xml.text("uuid", &[], &plan.uuid)?;
        xml.text("memory", &[("unit", "b")], &plan.memory.to_string())?;
        if plan.attachments.has_virtiofs() {
            // What serves it has to see the guest's memory.
            xml.parent("memoryBacking", &[], |xml| {
                xml.empty("source", &[("type", "memfd")])?;
                xml.empty("access", &[("mode", "shared")])
            })?;
        }
        xml.text("vcpu", &[], &plan.vcpus.to_string())?;
        xml.parent("sysinfo", &[("type", "smbios")], |xml| {
            xml.parent("oemStrings", &[], |xml| oem_strings.iter().try_for_each(|text| xml.text("entry", &[], text)))
        })?;
        xml.parent("sysinfo", &[("type", "fwcfg")], |xml| {
            xml.empty("entry", &[("name", "opt/com.coreos/config"), ("file", paths::IGNITION)])?;
            xml.empty("entry", &[("name", guest_setup::FIRMWARE_FILE), ("file", paths::SETUP)])
        })?;
        xml.parent("os", &[], |xml| os(xml, &plan.firmware))?;
        xml.parent("features", &[], |xml| {
            xml.empty("acpi", &[])?;
            xml.empty("apic", &[])?;
            translation_cache(xml, plan.accelerator)
        })?;
        xml.empty("cpu", &[("mode", cpu), ("check", "none")])?;
        xml.empty("clock", &[("offset", "utc")])?;
        xml.text("on_poweroff", &[], "destroy")?;
        xml.text("on_reboot", &[], "restart")?;
        xml.text("on_crash", &[], "destroy")?;
        // A guest that put itself to sleep would find nobody to wake it.
        xml.parent("pm", &[], |xml| {
            xml.empty("suspend-to-mem", &[("enabled", "no")])?;
            xml.empty("suspend-to-disk", &[("enabled", "no")])
        })?;
        xml.parent("devices", &[], |xml| devices(xml, plan))?;
        xml.empty("seclabel", &[("type", "none")])?;
        network::user_network(xml, plan)
    })
}

/// The container's limit of memory has room for a cache of this size.
fn translation_cache(xml: &mut Xml, accelerator: Accelerator) -> io::Result<()> {
    match accelerator {
        Accelerator::Kvm => Ok(()),
        Accelerator::Tcg => xml
            .parent("tcg", &[], |xml| xml.text("tb-cache", &[("unit", "MiB")], &(TRANSLATION_CACHE >> 20).to_string())),
    }
}

fn os(xml: &mut Xml, firmware: &Firmware) -> io::Result<()> {
    xml.text("type", &[("arch", "x86_64"), ("machine", "q35")], "hvm")?;
    match firmware {
        Firmware::Bios => xml.empty("bios", &[("useserial", "yes")]),
        Firmware::Uefi(uefi) => {
            xml.text("loader", &[("readonly", "yes"), ("type", "pflash")], &uefi.code)?;
            xml.text("nvram", &[], paths::NVRAM)
        }
    }?;
    xml.empty("smbios", &[("mode", "sysinfo")])?;
    xml.empty("boot", &[("dev", "hd")])
}

fn devices(xml: &mut Xml, plan: &Plan) -> io::Result<()> {
    xml.text("emulator", &[], &plan.emulator)?;
    xml.empty("controller", &[("type", "usb"), ("model", "none")])?;
    boot_disk(xml, plan.disk)?;
    xml.parent("disk", &[("type", "file"), ("device", "disk")], |xml| {
        xml.empty("driver", &[("name", "qemu"), ("type", "raw")])?;
        open_file(xml, paths::SEED)?;
        xml.empty("backingStore", &[])?;
        xml.empty("target", &[("dev", "vdb"), ("bus", "virtio")])?;
        xml.empty("readonly", &[])
    })?;
    attachments::disks(xml, &plan.attachments)?;
    attachments::file_systems(xml, &plan.attachments)?;
    network::interface(xml, plan)?;
    hostdev::hostdevs(xml, plan)?;
    xml.parent("serial", &[("type", "unix")], |xml| {
        xml.empty("source", &[("mode", "connect"), ("path", paths::CONSOLE)])?;
        xml.empty("target", &[("type", "isa-serial"), ("port", "0")])
    })?;
    xml.parent("rng", &[("model", "virtio")], |xml| xml.text("backend", &[("model", "random")], "/dev/urandom"))?;
    xml.empty("memballoon", &[("model", "virtio"), ("freePageReporting", "on")])?;
    xml.empty("panic", &[("model", "isa")])
}

fn boot_disk(xml: &mut Xml, disk: BootDisk) -> io::Result<()> {
    let (format, file, image) = match disk {
        BootDisk::Overlay { image, .. } => (Format::Qcow2, paths::OVERLAY, Some(image)),
        BootDisk::Image(format) => (format, paths::IMAGE, None),
    };
    xml.parent("disk", &[("type", "file"), ("device", "disk")], |xml| {
        let mut driver = vec![("name", "qemu"), ("type", format.name()), ("discard", "unmap")];
        driver.extend(ON_ERROR_OF_FILES);
        xml.empty("driver", &driver)?;
        open_file(xml, file)?;
        match image {
            None => xml.empty("backingStore", &[]),
            Some(format) => xml.parent("backingStore", &[("type", "file")], |xml| {
                xml.empty("format", &[("type", format.name())])?;
                open_file(xml, paths::IMAGE)?;
                xml.empty("backingStore", &[])
            }),
        }?;
        xml.empty("target", &[("dev", "vda"), ("bus", "virtio")])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount_sources::Sources;
    use crate::plan::plan;
    use crate::plan::tests::{BIOS_IMAGE, ID, host, request};
    use crate::request::options::FirmwareChoice;

    /// `BLESS=1 cargo test` writes the golden files anew.
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
    fn what_is_laid_over_a_domain_leaves_the_rest_as_it_is() {
        let golden = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kvm-hostdevs.xml"));
        let (golden, over) = (golden.unwrap(), |text| Overrides::parse(text).unwrap());
        // What is nowhere empty in ours is not so afterwards either.
        let same = golden.replace("<oemStrings>\n    </oemStrings>", "<oemStrings/>");
        assert_eq!(over("<domain/>").over(&golden).unwrap(), same);
        let two = over("<domain><vcpu>2</vcpu></domain>").over(&golden).unwrap();
        assert_eq!(two, same.replace("<vcpu>4</vcpu>", "<vcpu>2</vcpu>"));
        let error = Overrides::parse("<network/>").err().unwrap();
        assert_eq!(error, "its root element is <network>, not <domain>");
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let sources = Sources::default();
        let mut plan = plan(ID, &request(), &host(), BIOS_IMAGE, &sources).unwrap();
        plan.name = "<&>".into();
        plan.mac = "\"'<".into();
        let text = xml(&plan, &[]);
        assert!(text.contains("<name>&lt;&amp;&gt;</name>") && text.contains("address=\"&quot;&apos;&lt;\""), "{text}");
    }
}
