//! The cgroups above the container's: limits that hold for it, too, and that are not ours to raise.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Mount point of the hierarchies.
const ROOT: &str = "/sys/fs/cgroup";
/// The limit of memory in version 1, where each controller has a hierarchy, and in version 2.
const LIMITS: [(&str, &str); 2] = [("memory", "memory.limit_in_bytes"), ("", "memory.max")];
/// cgroup v1 has no word for "no limit", only a number about twice this one.
const NONE: u64 = 1 << 62;

/// The least limit of memory above the cgroup that a configuration names (`linux.cgroupsPath`), bytes.
pub fn memory_above(cgroups_path: Option<&Path>) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    least_limit(Path::new(ROOT), &parent(cgroups_path?, &own)?)
}

/// Parent of the container's cgroup, from the root of the hierarchy. `own` is the caller's `/proc/self/cgroup`.
fn parent(path: &Path, own: &str) -> Option<PathBuf> {
    let Some((slice, _)) = path.to_str()?.split_once(':') else {
        return path.parent().map(Path::to_owned);
    };
    // With systemd, a user's slices are below the service of the user's manager.
    let mut parent = users_systemd(own).unwrap_or_default();
    let name = slice.strip_suffix(".slice").or(Some("").filter(|_| slice.is_empty()))?;
    for (end, _) in name.match_indices('-').chain([(name.len(), "")]).filter(|(end, _)| *end > 0) {
        parent.push(format!("{}.slice", &name[..end]));
    }
    Some(parent)
}

fn users_systemd(own: &str) -> Option<PathBuf> {
    let path = Path::new(own.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let is_service = |name: &Path| {
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("user@") && name.ends_with(".service")
    };
    path.ancestors().find(|dir| is_service(dir)).map(Path::to_owned)
}

/// The least limit in `path` and above it.
fn least_limit(root: &Path, path: &Path) -> Option<u64> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    let path: PathBuf = names.collect();
    let limit = |(controller, file): (&str, &str), dir: &Path| {
        let text = fs::read_to_string(root.join(controller).join(dir).join(file)).ok()?;
        text.trim().parse::<u64>().ok().filter(|limit| *limit < NONE)
    };
    LIMITS.into_iter().flat_map(|of| path.ancestors().filter_map(move |dir| limit(of, dir))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_of_every_kind_of_path() {
        let rootless = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope\n";
        for (path, own, want) in [
            ("/libpod_parent/8f/libpod-98", "", Some("/libpod_parent/8f")),
            ("/kubepods/burstable/pod1-2/3", rootless, Some("/kubepods/burstable/pod1-2")),
            ("machine.slice:libpod:98", "", Some("machine.slice")),
            (
                "kubepods-burstable-pod1_2.slice:cri-containerd:3",
                "0::/system.slice/containerd.service\n",
                Some("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"),
            ),
            ("user.slice:libpod:98", rootless, Some("user.slice/user-1000.slice/user@1000.service/user.slice")),
            (":libpod:98", "", Some("")),
            ("strange:libpod:98", "", None),
        ] {
            assert_eq!(parent(Path::new(path), own), want.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn the_least_limit_on_the_way_up() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let least = |path: &str| least_limit(dir.path(), Path::new(path));
        assert_eq!(least("/a/b"), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(least("/a/b"), None);
        write("a/memory.max", "5000\n");
        write("memory.max", "6000\n");
        assert_eq!((least("/a/b"), least("/a/not-yet/there"), least("/")), (Some(5000), Some(5000), Some(6000)));
        write("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(least("/a/b"), Some(5000));
        write("memory/a/b/memory.limit_in_bytes", "4000\n");
        assert_eq!((least("a/b"), least("/../a")), (Some(4000), Some(5000)));
    }
}
