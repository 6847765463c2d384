use super::identity::{digest, tap};
use super::network::ssh_forward;
use super::*;
use crate::host::arch::Arch;
use crate::host::idmap::IdMap;
use crate::host::mount_sources::Node;
use crate::request::NetworkOwner;

pub(crate) fn request() -> Request {
    Request::parse(
        r#"{"ociVersion": "1.0.2", "process": {"cwd": "/", "args": [""], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "/r"}, "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]}}"#,
    )
    .unwrap()
}

const HOSTS_IDS: &str = "0 0 4294967295\n";

pub(crate) fn host() -> Host {
    Host {
        init: "/usr/local/libexec/crun-qemu/crun-qemu-init".into(),
        arch: Arch::of_host().unwrap(),
        emulator: "/usr/bin/qemu-system-x86_64".into(),
        kvm: Ok(()),
        kvm_node: Node { mode: 0o660, gid: 104 },
        tun: Ok(()),
        vhost_net: true,
        uefi: Some(Uefi { code: "/usr/share/OVMF/OVMF_CODE.fd".into(), vars: "/usr/share/OVMF/OVMF_VARS.fd".into() }),
        cpus: 4,
        memlock: 8 << 20,
        memory_above: None,
        uids: IdMap::parse(HOSTS_IDS),
        gids: IdMap::parse(HOSTS_IDS),
        pci: Vec::new(),
    }
}

pub(crate) const BIOS_IMAGE: ImageFacts =
    ImageFacts { format: Format::Qcow2, virtual_size: 1 << 30, root_is_ephemeral: false, bios_bootable: true };

pub(crate) const ID: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";

pub(super) fn decide(change: impl Fn(&mut Request, &mut Host, &mut ImageFacts)) -> Result<Plan> {
    let (mut request, mut host, mut image) = (request(), host(), BIOS_IMAGE);
    change(&mut request, &mut host, &mut image);
    plan(ID, &request, &host, image, &Sources::default())
}

#[test]
fn memory_is_the_limit_else_the_default() {
    for (limit, want) in [
        (None, Ok(DEFAULT_MEMORY)),
        (Some(1 << 30), Ok(1 << 30)),
        (Some(16 << 20), Err("--memory: 16 MiB is too little for a VM (at least 32m)".to_string())),
    ] {
        let got = decide(|r, _, _| r.memory = limit).map(|p| p.memory).map_err(|e| e.to_string());
        assert_eq!(got, want, "{limit:?}");
    }
    let uefi = decide(|r, _, _| (r.options.firmware, r.memory) = (FirmwareChoice::Uefi, Some(32 << 20))).unwrap_err();
    assert_eq!(uefi.to_string(), "--memory: 32 MiB is too little for a VM with UEFI (at least 64m)");
}

#[test]
fn a_limit_is_raised_by_what_qemu_needs() {
    let overhead = |limit: Option<u64>, emulated: bool| {
        decide(|r, _, _| (r.memory, r.options.emulated) = (limit, emulated)).unwrap().memory_overhead >> 20
    };
    // Without a limit there is nothing to raise.
    assert_eq!((overhead(None, false), overhead(None, true)), (0, 0));
    assert_eq!((overhead(Some(256 << 20), false), overhead(Some(256 << 20), true)), (242, 546));
    assert_eq!((overhead(Some(4 << 30), false), overhead(Some(4 << 30), true)), (257, 801));
    let with = |uefi: bool, shares: u64| {
        let firmware = if uefi { Firmware::Uefi(host().uefi.unwrap()) } else { Firmware::Bios };
        size::overhead(512 << 20, 2, Accelerator::Kvm, &firmware, shares) >> 20
    };
    assert_eq!((with(false, 0), with(true, 0), with(false, 2)), (235, 242, 301));
}

#[test]
fn vcpus_are_the_quota_rounded_up_else_the_cpus_allowed() {
    for (cpus, cpuset, want) in [
        (None, None, 4),
        (Some(1.5), None, 2),
        (Some(0.1), None, 1),
        (None, Some("0-1,3"), 3),
        (Some(2.0), Some("0"), 2),
    ] {
        let got = decide(|r, _, _| (r.cpus, r.cpuset) = (cpus, cpuset.map(str::to_string))).unwrap().vcpus;
        assert_eq!(got, want, "{cpus:?} {cpuset:?}");
    }
    assert!(decide(|r, _, _| r.cpuset = Some("3-1".into())).is_err());
}

#[test]
fn firmware_follows_the_disk_unless_told() {
    let uefi = Firmware::Uefi(host().uefi.unwrap());
    for (wanted, bootable, want) in [
        (FirmwareChoice::Auto, true, &Firmware::Bios),
        (FirmwareChoice::Auto, false, &uefi),
        (FirmwareChoice::Bios, false, &Firmware::Bios),
        (FirmwareChoice::Uefi, true, &uefi),
    ] {
        let got = decide(|r, _, i| (r.options.firmware, i.bios_bootable) = (wanted, bootable)).unwrap().firmware;
        assert_eq!(&got, want, "{wanted:?} {bootable}");
    }
    let error = decide(|r, h, _| (r.options.firmware, h.uefi) = (FirmwareChoice::Uefi, None)).unwrap_err();
    assert!(error.to_string().starts_with("UEFI firmware: this host has none (install the package ovmf"));
}

#[test]
fn without_kvm_one_warning_unless_emulation_is_meant() {
    let plan = decide(|_, h, _| h.kvm = Err("Permission denied".into())).unwrap();
    assert_eq!(plan.accelerator, Accelerator::Tcg);
    assert_eq!(plan.warnings.len(), 1);
    let plan = decide(|r, h, _| (r.options.emulated, h.kvm) = (true, Err("gone".into()))).unwrap();
    assert_eq!((plan.accelerator, plan.warnings), (Accelerator::Tcg, vec![]));
    assert_eq!(decide(|_, _, _| {}).unwrap().accelerator, Accelerator::Kvm);
}

#[test]
fn the_hosts_network_or_no_tun_means_the_user_network_and_a_warning() {
    let gone = || Err("No such file or directory".to_string());
    for (whose, tun, ports, want) in [
        (
            NetworkOwner::Foreign,
            Ok(()),
            "",
            "network: the container shares one \
             (the guest gets QEMU's user network: it reaches out, nothing reaches it, unless --port names ports)",
        ),
        (
            NetworkOwner::Own,
            gone(),
            "80/tcp,53",
            "network: /dev/net/tun: No such file or directory \
             (the guest gets QEMU's user network: it reaches out, only port 80/tcp, 53 reaches it)",
        ),
    ] {
        let ports = crate::request::ports::parse(ports).unwrap_or_default();
        let change = |r: &mut Request, h: &mut Host| {
            (r.network, h.tun, r.options.ports) = (whose.clone(), tun.clone(), ports.clone())
        };
        let plan = decide(|r, h, _| change(r, h)).unwrap();
        let ssh = "127.10.14.222:22022".parse().unwrap();
        assert_eq!(
            (plan.network, plan.warnings.iter().map(Error::to_string).collect::<Vec<_>>()),
            (Network::User { ssh, ports: ports.clone() }, vec![want.to_string()])
        );
    }
}

#[test]
fn in_a_shared_network_the_ports_that_are_named_and_no_warning() {
    let ports = crate::request::ports::parse("80/tcp,53").unwrap();
    for (whose, want) in
        [(NetworkOwner::Own, Ports::All), (NetworkOwner::Shared("/n".into()), Ports::Only(ports.clone()))]
    {
        let plan = decide(|r, _, _| (r.network, r.options.ports) = (whose.clone(), ports.clone())).unwrap();
        assert_eq!(plan.network, Network::Tap { name: "vm-a1b2c3d4".into(), vhost: true, ports: want });
        assert_eq!(plan.warnings, []);
    }
}

#[test]
fn tap_names() {
    for (id, want) in [
        ("1a2b3c4d5e6f7788", "vm-1a2b3c4d"),
        ("1A2B3C4D", "vm-1a2b3c4d"),
        ("web", "vm-a68da390"),
        ("", "vm-6c62272e"),
        ("../../x\n\"; drop", "vm-ce52f19a"),
    ] {
        assert_eq!(tap(id, digest(id)), want, "{id:?}");
    }
}

#[test]
fn each_vm_has_a_loopback_address_of_its_own() {
    let address = |id: &str| ssh_forward(digest(id)).to_string();
    let mut all: Vec<_> = (0..1000).map(|n| address(&format!("{n:064x}"))).collect();
    assert!(all.iter().all(|a| a.starts_with("127.") && a.ends_with(":22022")));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1000);
}

#[test]
fn identity_is_stable_and_well_formed() {
    let plan = decide(|_, _, _| {}).unwrap();
    assert_eq!(plan.uuid.len(), 36);
    assert_eq!((&plan.uuid[14..15], &plan.mac[..9], &*plan.name), ("8", "52:54:00:", "a1b2c3d4e5f6"));
    assert_eq!(plan, decide(|_, _, _| {}).unwrap());
}

#[test]
fn directories_need_a_capability_more() {
    let engines: Vec<_> = CAPABILITIES.iter().map(|(capability, _)| *capability).collect();
    let directory = r#"[{"destination": "/data", "source": "/d", "type": "bind", "options": ["rbind"]}]"#;
    let with = |mounts: &str, more: &[Capability]| {
        let mounts: Vec<oci_spec::runtime::Mount> = serde_json::from_str(mounts).unwrap();
        let capabilities = engines.iter().chain(more).copied().collect();
        let got = decide(|r, _, _| (r.mounts, r.capabilities) = (mounts.clone(), Some(Clone::clone(&capabilities))));
        got.map(drop).map_err(|e| e.to_string())
    };
    let lacks = "capabilities: the container lacks sys_chroot (--cap-add sys_chroot)";
    assert_eq!(with("[]", &[]), Ok(()));
    assert_eq!(with(directory, &[]), Err(lacks.to_string()));
    assert_eq!(with(directory, &[Capability::SysChroot]), Ok(()));
}

#[test]
fn processes_need_their_own_namespace_and_some_capabilities() {
    let all = [
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fowner,
        Capability::Kill,
        Capability::NetBindService,
        Capability::Setgid,
        Capability::Setpcap,
        Capability::Setuid,
    ];
    for (own_pids, have, want) in [
        (true, None, Ok(())),
        (true, Some(&all[..]), Ok(())),
        (
            true,
            Some(&all[..6]),
            Err("capabilities: the container lacks setpcap,setuid (--cap-add setpcap,setuid)".to_string()),
        ),
        (
            false,
            None,
            Err("--pid=host: the VM would be stopped without a shutdown of the guest, and a kill would leave \
                 QEMU running (a VM has no use for the host's processes: leave it out)"
                .to_string()),
        ),
    ] {
        let capabilities = have.map(|have| have.iter().copied().collect());
        let got = decide(|r, _, _| (r.own_pids, r.capabilities) = (own_pids, capabilities.clone()));
        assert_eq!(got.map(drop).map_err(|e| e.to_string()), want, "{own_pids} {have:?}");
    }
}

#[test]
fn passed_devices_are_different_ones_and_want_memory_locked() {
    let devices = crate::host::pci::tests::devices();
    let with = |limit, own, list: &[crate::host::pci::Device]| {
        let got = decide(|r, h, _| (r.memlock, h.memlock, h.pci) = (limit, own, list.to_vec()));
        got.map(|plan| plan.hostdevs).map_err(|e| e.to_string())
    };
    let little = "locked memory: a PCI device needs the guest's memory locked, 3072 MiB with what belongs to it, \
                  and 8192 KiB may be (--ulimit memlock=-1)";
    for (limit, own, want) in [
        (None, 8 << 20, Err(little.to_string())),
        (Some(8 << 20), u64::MAX, Err(little.to_string())),
        (Some(u64::MAX), 8 << 20, Ok(devices.clone())),
        (None, 3 << 30, Ok(devices.clone())),
    ] {
        assert_eq!(with(limit, own, &devices), want, "{limit:?} {own}");
    }
    assert_eq!(with(None, 8 << 20, &[]), Ok(vec![]));
    let twice = [devices[0].clone(), devices[2].clone(), devices[0].clone()];
    assert_eq!(with(None, u64::MAX, &twice), Err("PCI device 0000:01:1f.0: given twice".into()));
}
