//! A host with a file system of its own below `/usr`, which the container around the VM has from the host.

use std::fs;

use crate::harness::{Dir, LABEL, Podman, directory, mount_namespace, rootfs, text, unique};

/// What podman's user runs: a VM, commands in the container around it, and the VM's end.
const SCRIPT: &str = r#"
podman run -d --name $vm --runtime "$0" -w /usr/games/deeper --rootfs "$1" "" --emulated > /dev/null
podman exec $vm root echo the guest is up
podman exec $vm - sh -c 'cd /usr/games/deeper; pwd; grep -c " /usr/games .*nosuid,nodev.* - tmpfs mine " /proc/self/mountinfo
    cat /usr/games/file; touch /usr/x /usr/games/file 2>&1 | grep -c Read-only'
podman stop -t 60 $vm > /dev/null
podman inspect --format '{{.State.ExitCode}}' $vm
podman rm $vm > /dev/null
"#;

/// What podman's user prints where a writable file system with devices and programs of root's is mounted below `/usr`.
fn run(podman: Podman, home: &Dir) -> String {
    let root = rootfs(podman, "tiny");
    // podman looks for the working directory in the root.
    fs::create_dir_all(root.join("usr/games/deeper")).unwrap();
    [root.path(), home.path()].into_iter().for_each(|dir| podman.own(dir));
    let (mut user, mut last) = (podman.tool("sh"), "");
    if podman == Podman::Rootless {
        // A rootless user's podman keeps a mount namespace, so that this one needs another home and an end.
        user.env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path());
        last = "podman system migrate";
    }
    let name = unique(LABEL);
    let inner = format!("cd /; vm={name}; trap 'podman rm -f -i -t 0 $vm; {last}' EXIT\n{SCRIPT}");
    user.args(["-ec", &inner, env!("CARGO_BIN_EXE_crun-qemu"), root.path().to_str().unwrap()]);
    let mut command =
        mount_namespace("mount -t tmpfs -o suid,dev mine /usr/games; echo found > /usr/games/file; exec \"$0\" \"$@\"");
    command.arg(user.get_program()).args(user.get_args());
    command.envs(user.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn file_system_below_usr_is_read_only_in_the_container() {
    let want = "the guest is up\n/usr/games/deeper\n1\nfound\n2\n0\n";
    for podman in [Podman::Rootless, Podman::Rootful] {
        assert_eq!(run(podman, &directory()), want, "{podman:?}");
    }
}
