//! The checks, each independent of the others: a missing item hides nothing else.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crun_qemu::host::arch::Arch;
use crun_qemu::host::policy::Policy;
use crun_qemu::host::{self, Answer, Container, Devices, Host, Requirement, Selinux};
use crun_qemu::plan::Accelerator;
use crun_qemu::prepare::{qemu_caps_cache, skeleton};
use nix::unistd::{User, geteuid};

use super::network;
use super::{Check, State};

/// All checks, in the order of the report.
pub fn all(crun: Option<&Path>, init: &Path) -> Vec<Check> {
    // As for `podman run` without options.
    let labelled = matches!(Selinux::here(), Selinux::Enforcing { .. });
    let container = Container { labelled, ..Container::default() };
    let mut checks = vec![system(), cgroups(Path::new("/sys/fs/cgroup")), security(Selinux::here()), engine()];
    checks.extend(crun_and_plugin(crun, init));
    checks.push(supervisor(init));
    // An unknown architecture is reported already.
    let arch = Arch::of_host().ok();
    checks.extend(arch.map(|arch| versioned("QEMU", State::No, &arch.emulator())));
    checks.extend([program("libvirt", State::No, &host::DRIVER), program("BIOS", State::Warn, &host::BIOS)]);
    checks.extend(arch.map(uefi));
    checks.extend(devices(init, &container));
    checks.extend([program("ssh", State::Warn, &host::SSH), program("virtiofsd", State::Warn, &host::VIRTIOFSD)]);
    if !geteuid().is_root() {
        checks.push(subordinate_ids());
    }
    checks.push(policy());
    checks.extend(Host::detect(init, &container, Vec::new()).ok().and_then(|host| asked(&host)));
    checks
}

fn system() -> Check {
    let merged = skeleton::USR_LINKS.iter().try_for_each(|name| host::merged_usr(Path::new("/"), name));
    let loader = || host::loader_cache(Path::new(host::LOADER_CACHE));
    match Arch::of_host().and_then(|_| loader()).and(merged) {
        Ok(()) => Check::new(State::Ok, "system", "x86-64, glibc, merged /usr"),
        Err(e) => Check::failed(State::No, "system", &e),
    }
}

fn cgroups(root: &Path) -> Check {
    let check = |state, text: &str| Check::new(state, "cgroups", text);
    let hint = "systemd.unified_cgroup_hierarchy=1 on the kernel's command line";
    if root.join("cgroup.controllers").exists() {
        check(State::Ok, "version 2")
    } else if root.join("unified/cgroup.procs").exists() {
        check(State::Warn, "versions 1 and 2 at once: podman needs one of them").hint(hint)
    } else if root.join("memory").exists() {
        check(State::Warn, "version 1: rootless containers have no limits, newer engines need version 2").hint(hint)
    } else {
        check(State::Warn, "none: containers have no limits").hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    }
}

fn security(selinux: Selinux) -> Check {
    let check = |state, text: &str| Check::new(state, "security", text);
    match selinux {
        Selinux::Enforcing { devices: true } => check(State::Ok, "SELinux is enforcing")
            .hint("a --rootfs directory has to be the containers': chcon -R -t container_file_t DIR"),
        Selinux::Enforcing { devices: false } => {
            check(State::Warn, "SELinux is enforcing, and keeps all devices but /dev/kvm from containers: no tap")
                .hint(Selinux::devices_hint())
        }
        Selinux::Permissive => check(State::Ok, "SELinux is permissive"),
        Selinux::Off => {
            let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
            check(State::Ok, if apparmor.starts_with('Y') { "AppArmor" } else { "neither SELinux nor AppArmor" })
        }
    }
}

fn engine() -> Check {
    let found = ["podman", "docker", "nerdctl"].into_iter().find_map(version_of);
    match found {
        Some(version) => Check::new(State::Ok, "engine", version),
        None => Check::new(State::Warn, "engine", "neither podman nor Docker").hint("install the package podman"),
    }
}

/// crun does not report an unknown handler; it silently starts an ordinary container.
fn crun_and_plugin(crun: Option<&Path>, init: &Path) -> Vec<Check> {
    let missing = || Check::new(State::No, "crun", "not installed").hint("install the package crun");
    let Some(crun) = crun else { return vec![missing()] };
    let Some(text) = output(crun) else { return vec![missing()] };
    let name = text.lines().next().unwrap_or_default();
    let core = init.with_file_name("crun-qemu-core.so");
    let plugin = |state, text: &str| Check::new(state, "plugin", text);
    let plugin = match (text.contains("+QEMU"), core.exists()) {
        (true, true) => plugin(State::Ok, "loaded (+QEMU)"),
        (true, false) => {
            plugin(State::Warn, &format!("loaded (+QEMU), without {}", core.display())).hint("run make install")
        }
        (false, _) => plugin(State::Warn, "crun does not load it, and takes its annotation for nothing")
            .hint("run make install, or use --runtime crun-qemu"),
    };
    vec![Check::new(State::Ok, "crun", format!("{}, {name}", crun.display())), plugin]
}

fn supervisor(init: &Path) -> Check {
    if init.is_file() {
        Check::new(State::Ok, "supervisor", init.display().to_string())
    } else {
        Check::new(State::No, "supervisor", format!("{}: not there", init.display())).hint("run make install")
    }
}

/// A program that a package provides; without it the state is `otherwise`.
fn program(name: &'static str, otherwise: State, requirement: &Requirement) -> Check {
    match requirement.find() {
        Ok(path) => Check::new(State::Ok, name, path),
        Err(e) => Check::failed(otherwise, name, &e),
    }
}

fn versioned(name: &'static str, otherwise: State, requirement: &Requirement) -> Check {
    let check = program(name, otherwise, requirement);
    if check.state != State::Ok {
        return check;
    }
    match version_of(&check.text) {
        Some(version) => Check { text: format!("{}, {version}", check.text), ..check },
        None => Check::new(otherwise, name, format!("{} does not run", check.text)),
    }
}

fn uefi(arch: &Arch) -> Check {
    match host::installed_uefi(arch) {
        Some(uefi) => Check::new(State::Ok, "UEFI", uefi.code),
        None => {
            let check = Check::new(State::Warn, "UEFI", "no firmware: disks that need UEFI do not boot");
            check.hint("install the package ovmf (Debian) or edk2-ovmf (Fedora)")
        }
    }
}

fn devices(init: &Path, container: &Container) -> Vec<Check> {
    let devices = Devices::look(container);
    let slow = |why: String| Check::new(State::Warn, "KVM", format!("{why}: guests are emulated, which is slow"));
    let by_group = |name: &str| host::by_group_alone(Path::new(name));
    let kvm = match devices.kvm.map_err(|why| format!("/dev/kvm: {why}")).and_then(|()| host::runs_code(init)) {
        Ok(()) if by_group("/dev/kvm") => slow("/dev/kvm is a group's, which containers do not keep".into())
            .hint("podman run --group-add keep-groups"),
        Ok(()) => Check::new(State::Ok, "KVM", "a small program runs under it: long mode, interrupts"),
        Err(why) if why.contains("Permission denied") => {
            slow(why).hint("usermod -a -G kvm USER, and podman run --group-add keep-groups")
        }
        Err(why) => {
            slow(why).hint("the CPU's virtualization has to be on: in the firmware, or in a VM by its hypervisor")
        }
    };
    let tap = match devices.tun.map_err(|why| format!("/dev/net/tun: {why}")).and_then(|()| network::can_be_set_up()) {
        Ok(()) => Check::new(State::Ok, "network", "a tap, and nf_tables for NAT"),
        // Without the device there is a substitute, without the rest there is none.
        Err(why) if why.starts_with("/dev/net/tun") => {
            Check::new(State::Warn, "network", format!("{why}: guests get QEMU's user network"))
                .hint("modprobe tun; chmod 666 /dev/net/tun for rootless containers")
        }
        Err(why) => Check::new(State::Warn, "network", format!("{why}: VMs run with --network host alone")),
    };
    let vhost = match devices.vhost_net {
        Ok(()) if by_group("/dev/vhost-net") => {
            Check::new(State::Warn, "vhost-net", "/dev/vhost-net is a group's: QEMU moves the packets itself")
                .hint("podman run --group-add keep-groups")
        }
        Ok(()) => Check::new(State::Ok, "vhost-net", "/dev/vhost-net"),
        Err(why) => {
            Check::new(State::Warn, "vhost-net", format!("/dev/vhost-net: {why}: QEMU moves the packets itself"))
                .hint("modprobe vhost_net")
        }
    };
    vec![kvm, tap, vhost]
}

/// Subordinate ids, for rootless containers.
fn subordinate_ids() -> Check {
    let user = User::from_uid(geteuid()).ok().flatten();
    let name = user.map(|user| user.name).unwrap_or_default();
    let id = geteuid().to_string();
    let has = |file: &str| given(&fs::read_to_string(file).unwrap_or_default(), &name, &id);
    let check = |state, text: &str| Check::new(state, "rootless", text);
    let add = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}");
    match (has("/etc/subuid") && has("/etc/subgid"), Path::new("/usr/bin/newuidmap").exists()) {
        (true, true) => check(State::Ok, &format!("{name} has subordinate ids")),
        (false, _) => {
            check(State::Warn, &format!("{name} has no subordinate ids in /etc/subuid and /etc/subgid")).hint(add)
        }
        (_, false) => check(State::Warn, "no newuidmap")
            .hint("install the package uidmap (Debian) or shadow-utils-subid (Fedora)"),
    }
}

/// Whether the file has a line `NAME:FIRST:COUNT` for the user.
fn given(file: &str, name: &str, id: &str) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_string).collect::<Vec<_>>();
    file.lines().map(fields).any(|line| {
        line.len() == 3 && (line[0] == name || line[0] == id) && line[2].trim().parse::<u64>().is_ok_and(|n| n > 0)
    })
}

fn policy() -> Check {
    match Policy::read() {
        Ok(policy) => Check::new(State::Ok, "policy", policy.summary()),
        Err(e) => Check::failed(State::Warn, "policy", &e),
    }
}

/// Warns if QEMU could not be probed: each VM then probes again.
fn asked(host: &Host) -> Option<Check> {
    let accelerators = [Accelerator::Kvm, Accelerator::Tcg];
    let why = accelerators.into_iter().find_map(|accelerator| qemu_caps_cache::failure(host, accelerator))?;
    let text = format!("libvirt could not ask QEMU what it can do: {why}: starts are slower");
    Some(Check::new(State::Warn, "capabilities", text).hint("it is tried again after an hour or an upgrade"))
}

/// The first line of `PROGRAM --version`.
fn version_of(program: &str) -> Option<String> {
    output(Path::new(program))?.lines().next().map(str::to_string)
}

fn output(program: &Path) -> Option<String> {
    match host::ask(program, &[OsStr::new("--version")], PATIENCE) {
        Answer::Done(0, text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Limit for a program that prints its version.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_by_name_or_number() {
        for (file, want) in [
            ("ann:100000:65536\n", true),
            ("1000:100000:65536\n", true),
            ("anna:100000:65536\n", false),
            ("ann:100000:0\n", false),
            ("ann\n", false),
            ("", false),
        ] {
            assert_eq!(given(file, "ann", "1000"), want, "{file}");
        }
    }

    #[test]
    fn cgroups_of_all_kinds() {
        for (files, state, word) in [
            (&["cgroup.controllers"][..], State::Ok, "version 2"),
            (&["memory", "unified/cgroup.procs"], State::Warn, "versions 1 and 2 at once"),
            (&["memory"], State::Warn, "version 1:"),
            (&[], State::Warn, "none"),
        ] {
            let root = tempfile::tempdir().unwrap();
            for file in files {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let check = cgroups(root.path());
            assert!(check.state == state && check.text.starts_with(word), "{check:?}");
        }
    }

    #[test]
    fn selinux_wants_a_word_for_devices() {
        assert_eq!(security(Selinux::Enforcing { devices: true }).state, State::Ok);
        let check = security(Selinux::Enforcing { devices: false });
        assert_eq!((check.state, check.hint.as_deref()), (State::Warn, Some("setsebool -P container_use_devices on")));
    }

    #[test]
    fn a_crun_that_is_missing_is_a_reason() {
        for crun in [None, Some(Path::new("/nowhere/crun"))] {
            let checks = crun_and_plugin(crun, Path::new("/nowhere/init"));
            assert_eq!(checks.iter().map(|c| (c.name, c.state)).collect::<Vec<_>>(), [("crun", State::No)]);
        }
        assert_eq!(supervisor(Path::new("/nowhere/init")).state, State::No);
    }
}
