//! Files of a container's cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use super::Vm;

/// Whether the host has cgroups version 1, alone or beside version 2.
pub fn cgroups_v1() -> bool {
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A file of the container's cgroup, by its name in version 1, where each controller has a hierarchy, or in version 2.
pub fn cgroup_file(vm: &Vm, controller: &str, v1: &str, v2: &str) -> PathBuf {
    let all = fs::read_to_string(format!("/proc/{}/cgroup", vm.pid())).unwrap();
    let mut lines = all.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (root, path) = match lines.clone().find(|(names, _)| names.split(',').any(|name| name == controller)) {
        Some((_, path)) => (Path::new("/sys/fs/cgroup").join(controller), path),
        None => ("/sys/fs/cgroup".into(), lines.find(|(names, _)| names.is_empty()).unwrap().1),
    };
    let directory = root.join(path.trim_start_matches('/'));
    let file = [v1, v2].map(|name| directory.join(name)).into_iter().find(|path| path.exists());
    file.unwrap_or_else(|| panic!("neither {v1} nor {v2} is in {}", directory.display()))
}

/// Trimmed content of such a file.
pub fn cgroup_value(vm: &Vm, controller: &str, v1: &str, v2: &str) -> String {
    fs::read_to_string(cgroup_file(vm, controller, v1, v2)).unwrap().trim().to_owned()
}
