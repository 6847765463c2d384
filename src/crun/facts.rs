//! Compares the structs of `include/crun.h` with crun's: `tests/abi/layouts/VERSION` is the output of
//! `util/crun-facts.sh` for the headers of the first version with that layout.

use std::fmt::Write;
use std::fs;
use std::mem::offset_of;
use std::path::Path;

use super::layout::{LAYOUTS, Layout, Present};
use super::sys::*;

fn size_of_member<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// A line for each member: its offset and size. A trailing underscore is not part of the name.
macro_rules! members {
    ($out:ident, $name:literal, $type:ty: $($member:ident)*) => {$(
        let name = stringify!($member).trim_end_matches('_');
        let size = size_of_member(|it: &$type| &it.$member);
        writeln!($out, "{}.{name} {} {size}", $name, offset_of!($type, $member)).unwrap();
    )*};
}

/// A line for each "present" bit: byte and bit.
macro_rules! interleaved {
    ($out:ident, $name:literal, $type:ty: $($member:ident = $present:ident)*) => {$(
        writeln!($out, "{}.{}? {}.0", $name, stringify!($member), offset_of!($type, $present)).unwrap();
    )*};
}

/// The same for bits that are together in one place.
fn trailing(out: &mut String, name: &str, at: usize, members: &str) {
    for (n, member) in members.split(' ').enumerate() {
        writeln!(out, "{name}.{member}? {}.{}", at + n / 8, n % 8).unwrap();
    }
}

fn linux(out: &mut String, layout: &Layout) {
    members!(out, "linux", crun_linux: devices devices_len);
    if layout.resources == offset_of!(crun_linux_with_net_devices, resources) {
        members!(out, "linux", crun_linux_with_net_devices: uid_mappings uid_mappings_len gid_mappings
            gid_mappings_len namespaces namespaces_len resources cgroups_path);
    } else {
        members!(out, "linux", crun_linux_without_net_devices: uid_mappings uid_mappings_len gid_mappings
            gid_mappings_len namespaces namespaces_len resources cgroups_path);
    }
}

fn device_rule(out: &mut String, present: Present) {
    match present {
        Present::Interleaved => {
            writeln!(out, "device_rule {}", size_of::<crun_device_rule_interleaved>()).unwrap();
            members!(out, "device_rule", crun_device_rule_interleaved: allow type_ major minor access);
            interleaved!(out, "device_rule", crun_device_rule_interleaved:
                allow = allow_present major = major_present minor = minor_present);
        }
        Present::Trailing => {
            writeln!(out, "device_rule {}", size_of::<crun_device_rule_trailing>()).unwrap();
            members!(out, "device_rule", crun_device_rule_trailing: allow type_ major minor access);
            trailing(out, "device_rule", offset_of!(crun_device_rule_trailing, present), "allow major minor");
        }
    }
}

fn memory(out: &mut String, present: Present) {
    match present {
        Present::Interleaved => {
            writeln!(out, "memory {}", size_of::<crun_memory_interleaved>()).unwrap();
            members!(out, "memory", crun_memory_interleaved: kernel kernel_tcp limit reservation swap swappiness
                disable_oom_killer use_hierarchy check_before_update);
            interleaved!(out, "memory", crun_memory_interleaved: kernel = kernel_present
                kernel_tcp = kernel_tcp_present limit = limit_present reservation = reservation_present
                swap = swap_present swappiness = swappiness_present
                disable_oom_killer = disable_oom_killer_present use_hierarchy = use_hierarchy_present
                check_before_update = check_before_update_present);
        }
        Present::Trailing => {
            writeln!(out, "memory {}", size_of::<crun_memory_trailing>()).unwrap();
            members!(out, "memory", crun_memory_trailing: kernel kernel_tcp limit reservation swap swappiness
                disable_oom_killer use_hierarchy check_before_update);
            let names = "kernel kernel_tcp limit reservation swap swappiness disable_oom_killer use_hierarchy \
                         check_before_update";
            trailing(out, "memory", offset_of!(crun_memory_trailing, present), names);
        }
    }
}

/// The output of `util/crun-facts.sh` for our structs.
fn ours(layout: &Layout) -> String {
    let mut text = String::new();
    let out = &mut text;
    members!(out, "config", crun_config: oci_version hooks annotations hostname domainname mounts mounts_len root
        process linux_);
    members!(out, "root", crun_root: path readonly);
    members!(out, "process", crun_process: args args_len command_line console_size cwd env env_len);
    writeln!(out, "mount {}", size_of::<crun_mount>()).unwrap();
    members!(out, "mount", crun_mount: source destination options options_len type_ uid_mappings uid_mappings_len
        gid_mappings gid_mappings_len);
    linux(out, layout);
    members!(out, "device", crun_device: type_ path);
    members!(out, "resources", crun_resources: unified devices devices_len pids block_io cpu hugepage_limits
        hugepage_limits_len memory network);
    writeln!(out, "map {}", size_of::<crun_map>()).unwrap();
    members!(out, "map", crun_map: keys values len);
    device_rule(out, layout.present);
    memory(out, layout.present);
    members!(out, "container", crun_container: container_def host_uid host_gid container_uid container_gid);
    members!(out, "context", crun_context: state_root id bundle);
    writeln!(out, "error {}", size_of::<crun_error>()).unwrap();
    members!(out, "error", crun_error: status msg);
    members!(out, "handler", crun_handler: name feature_string alias load unload run_func exec_func
        configure_container can_handle_container modify_oci_configuration);
    text
}

#[test]
fn layouts_are_those_of_cruns_headers() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi/layouts");
    let versions = ["1.8.1", "1.8.5", "1.22"];
    assert_eq!(fs::read_dir(&dir).unwrap().count(), versions.len());
    for (layout, version) in LAYOUTS.iter().zip(versions) {
        let theirs = fs::read_to_string(dir.join(version)).unwrap();
        for (ours, theirs) in ours(layout).lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{version} {layout:?}");
        }
        assert_eq!(ours(layout), theirs, "{version} {layout:?}");
    }
}
