//! From a configuration to a VM, with a host and an image that are made up.

use crun_qemu::domain;
use crun_qemu::edits::{Artifacts, BootFiles, Edits};
use crun_qemu::engine::mounts::is_bind;
use crun_qemu::first_boot::guest_setup::Setup;
use crun_qemu::first_boot::{Identity, credentials};
use crun_qemu::host::arch::Arch;
use crun_qemu::host::idmap::IdMap;
use crun_qemu::host::image::Format;
use crun_qemu::host::mount_sources::{BlockDevice, Node, Source, Sources};
use crun_qemu::host::{Host, Uefi};
use crun_qemu::plan::{ImageFacts, Plan, plan};
use crun_qemu::request::Request;

use super::told;

pub const HOOK: &str = "/usr/local/bin/crun-qemu";
pub const ID: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";

/// The plan for a configuration. A mount's source says by the length of its path what kind of thing it is.
pub fn plan_of(knob: usize, config: &str) -> Option<(Request, Plan)> {
    let request = told(Request::parse(config))?;
    let sources = Sources {
        mounts: request.mounts.iter().map(source).collect(),
        devices: request.devices.iter().map(|d| d.is_block.then_some(block(d.major))).collect(),
    };
    let image = ImageFacts {
        format: [Format::Qcow2, Format::Raw][knob & 1],
        virtual_size: 1 << 30,
        root_is_ephemeral: knob & 2 != 0,
        bios_bootable: knob & 4 == 0,
    };
    let plan = told(plan(ID, &request, &host(knob), image, &sources))?;
    Some((request, plan))
}

fn host(knob: usize) -> Host {
    let device = |there: bool| if there { Ok(()) } else { Err("Permission denied".to_owned()) };
    Host {
        init: "/usr/local/libexec/crun-qemu/crun-qemu-init".into(),
        arch: Arch::of_host().unwrap(),
        emulator: "/usr/bin/qemu-system-x86_64".into(),
        kvm: device(knob & 8 != 0),
        kvm_node: Node { mode: 0o660, gid: if knob & 2 == 0 { 0 } else { 104 } },
        tun: device(knob & 16 == 0),
        vhost_net: knob & 32 != 0,
        uefi: Some(Uefi { code: "/usr/share/OVMF/OVMF_CODE.fd".into(), vars: "/usr/share/OVMF/OVMF_VARS.fd".into() }),
        cpus: 4,
        memlock: 8 << 20,
        memory_above: (knob & 64 != 0).then_some(1 << 30),
        uids: IdMap::parse("0 0 4294967295"),
        gids: IdMap::parse(if knob & 1 == 0 { "0 0 4294967295" } else { "0 1000 1" }),
        pci: Vec::new(),
    }
}

fn block(minor: i64) -> BlockDevice {
    BlockDevice { major: 7, minor, read_only: minor & 1 == 1, node: Node { mode: 0o660, gid: 6 } }
}

fn source(mount: &oci_spec::runtime::Mount) -> Source {
    let Some(path) = mount.source().as_deref().filter(|_| is_bind(mount)) else { return Source::Directory };
    match path.as_os_str().len() % 8 {
        0..=2 => Source::Directory,
        3 | 4 => Source::File,
        5 => Source::Block(block(path.as_os_str().len() as i64)),
        6 => Source::CharDevice,
        _ => Source::Other("a socket"),
    }
}

/// What systemd is told in the SMBIOS tables.
pub fn oem_strings(plan: &Plan) -> Vec<String> {
    let hosts = [("192.0.2.7".to_owned(), "db".to_owned())];
    credentials::systemd(&identity().public_keys, &Setup::new(&plan.attachments, &hosts))
}

pub fn identity() -> Identity {
    Identity {
        instance_id: "11111111-2222".into(),
        hostname: "h\"'\n".into(),
        public_keys: vec!["ssh-ed25519 AAAA crun-qemu".into(), "ssh-ed25519 BBBB mine".into()],
        password_hash: Some("$6$salt$hash".into()),
    }
}

/// The domain.
pub fn domain_of(plan: &Plan) -> String {
    domain::domain(plan, &oem_strings(plan)).document()
}

/// What is changed in the configuration.
pub fn edits_of(plan: &Plan) -> Edits {
    let artifacts = Artifacts {
        root: "/b/crun-qemu/root".into(),
        workdir: None,
        init: "/usr/local/libexec/crun-qemu/crun-qemu-init".into(),
        boot: BootFiles::Disk {
            image: "/b/rootfs/disk.qcow2".into(),
            overlay: Some("/b/crun-qemu/overlay.qcow2".into()),
        },
        nvram: Some("/b/crun-qemu/nvram.fd".into()),
        fd_store: None,
        virtiofsd: Some("/usr/libexec/virtiofsd".into()),
        capabilities: None,
    };
    Edits::new(plan, &artifacts)
}
