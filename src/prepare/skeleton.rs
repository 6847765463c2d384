//! The container's root: the host's `/usr` and our files, and nothing from the image's own root.

use std::fs;
use std::path::Path;

use super::private_dir::PrivateDir;
use super::workdir::Workdir;
use crate::error::{Context, Result};
use crate::handoff::paths;
use crate::host::merged_usr;
use crate::plan::User;
use crate::plan::attachments::{Attachments, Disk, DiskSource, SharedFile};

/// Name of the root in the private directory.
pub const ROOT: &str = "root";

/// Mount points for directories.
pub(super) const DIRS: &[&str] = &[
    "dev",
    "etc",
    "proc",
    "run",
    "sys",
    "tmp",
    "usr",
    "var/tmp",
    "crun-qemu/capabilities",
    "crun-qemu/disks",
    "crun-qemu/fd-store",
    "crun-qemu/local/bin",
];
/// Directories closed to QEMU: they contain the key for the guest and the shared directories.
pub(super) const CLOSED_DIRS: &[&str] = &["crun-qemu/ssh", "crun-qemu/mounts"];
/// Mount points for files.
const FILES: &[&str] = &[
    "etc/hostname",
    "etc/hosts",
    "etc/ld.so.cache",
    "etc/resolv.conf",
    "crun-qemu/crun-qemu-init",
    "crun-qemu/image",
    "crun-qemu/nvram.fd",
    "crun-qemu/overlay.qcow2",
    "crun-qemu/virtiofsd",
];
/// libvirt looks up the user that its packages make for QEMU even if it is configured to use root. The name is compiled
/// in: `libvirt-qemu` on Debian and Arch, `qemu` on Fedora and openSUSE.
pub const PASSWD: &str = "root:x:0:0:root:/run:/bin/sh\n\
    libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin\nqemu:x:107:107::/:/usr/sbin/nologin\n";
/// Groups, for the same reason.
pub const GROUP: &str = "root:x:0:\nkvm:x:64054:\nlibvirt-qemu:x:64055:\nqemu:x:107:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
/// Top-level names that are links into `/usr` on a host whose `/usr` is merged.
pub const USR_LINKS: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Users that `podman exec` can name where crun insists on finding a command of that name: root, the container itself
/// and the default users of the distributions' cloud images.
const EXEC_NAMES: &str = "- root admin alma almalinux alpine amazon arch azureuser bitnami centos clear cloud cloud-user core \
    debian ec2-user eurolinux fedora freebsd gentoo kali mageia nixos opensuse openeuler opc oracle rancher rocky rhel \
    sles suse tiny ubuntu user vagrant void";

/// Makes the root below `dir`; again, where it is there already. `users` can be named in `podman exec` as well;
/// `workdir` is where engines start every exec.
pub fn make(dir: &PrivateDir, users: &[String], workdir: &Workdir, qemu: Option<&User>) -> Result<()> {
    let inside = |name: &str| format!("{ROOT}/{name}");
    DIRS.iter().try_for_each(|name| dir.make_dir(&inside(name)))?;
    CLOSED_DIRS.iter().try_for_each(|name| dir.make_closed_dir(&inside(name)))?;
    for name in FILES {
        dir.write(&inside(name), 0o644, b"")?;
    }
    let (passwd, group) = users_and_groups(qemu);
    for (name, content) in [("etc/passwd", &*passwd), ("etc/group", &group), ("etc/nsswitch.conf", NSSWITCH)] {
        dir.write(&inside(name), 0o644, content.as_bytes())?;
    }
    if let Some(name) = workdir.made() {
        dir.make_dir(&inside(name))?;
    }
    for name in USR_LINKS {
        link_as_the_host_has_it(dir, name)?;
    }
    // Every lookup of a command in this directory fails with ELOOP, which newer cruns pass on to the handler: any
    // user of the guest can be named. Older ones need the names.
    dir.link(&inside("crun-qemu/local/sbin"), Path::new("sbin"))?;
    let users = users.iter().map(String::as_str).filter(|name| !name.contains('/') && !name.starts_with('.'));
    EXEC_NAMES
        .split_whitespace()
        .chain(users)
        .try_for_each(|name| dir.link(&inside(&format!("crun-qemu/local/bin/{name}")), Path::new(paths::INIT)))
}

/// `/etc/passwd` and `/etc/group`. libvirt looks up there which groups QEMU's user is in.
fn users_and_groups(qemu: Option<&User>) -> (String, String) {
    let (mut passwd, mut group) = (PASSWD.to_owned(), GROUP.to_owned());
    if let Some(User { ids, groups, .. }) = qemu {
        passwd.push_str(&format!("vm:x:{}:{}::/:/usr/sbin/nologin\n", ids.uid, ids.gid));
        group.push_str(&format!("vm:x:{}:\n", ids.gid));
        groups.iter().for_each(|gid| group.push_str(&format!("device-{gid}:x:{gid}:vm\n")));
    }
    (passwd, group)
}

/// Makes the places to which the container's mounts are moved.
pub fn places(dir: &PrivateDir, attachments: &Attachments) -> Result<()> {
    let inside = |path: String| format!("{ROOT}{path}");
    dir.make_dir(&inside(SharedFile::DIR.into()))?;
    attachments.shares.iter().try_for_each(|share| dir.make_dir(&inside(share.path())))?;
    let files = attachments.files.iter().map(SharedFile::path);
    let disks = attachments.disks.iter().filter(|disk| !matches!(disk.source, DiskSource::Device(..))).map(Disk::path);
    files.chain(disks).try_for_each(|path| dir.write(&inside(path), 0o644, b"").map(drop))
}

/// Whether the path below the root is one of our files, or goes through one.
pub(super) fn is_below_a_file(path: &str) -> bool {
    let files = FILES.iter().copied().chain(["etc/passwd", "etc/group", "etc/nsswitch.conf"]);
    files.into_iter().any(|file| Path::new(path).starts_with(file))
}

fn link_as_the_host_has_it(dir: &PrivateDir, name: &str) -> Result<()> {
    let host = Path::new("/").join(name);
    let Ok(metadata) = fs::symlink_metadata(&host) else { return Ok(()) };
    if !metadata.is_symlink() {
        return merged_usr(Path::new("/"), name);
    }
    dir.link(&format!("{ROOT}/{name}"), &fs::read_link(&host).context(host.display())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::supervisor_config::Ids;

    #[test]
    fn qemus_user_is_in_the_groups_of_its_devices() {
        assert_eq!(users_and_groups(None), (PASSWD.to_owned(), GROUP.to_owned()));
        let user = User { ids: Ids { uid: 7, gid: 8 }, outside_gid: 9, groups: vec![104, 6] };
        let (passwd, group) = users_and_groups(Some(&user));
        assert_eq!(passwd, format!("{PASSWD}vm:x:7:8::/:/usr/sbin/nologin\n"));
        assert_eq!(group, format!("{GROUP}vm:x:8:\ndevice-104:x:104:vm\ndevice-6:x:6:vm\n"));
    }

    /// The name that libvirt has compiled in, taken from the test of its configuration's lens.
    fn compiled_in(key: &str) -> Option<String> {
        let lens = fs::read_to_string("/usr/share/augeas/lenses/tests/test_libvirtd_qemu.aug").ok()?;
        let line = lens.lines().find_map(|line| line.strip_prefix(&format!("{{ \"{key}\" = \"")))?;
        Some(line.strip_suffix("\" }")?.to_owned())
    }

    #[test]
    fn every_build_of_libvirt_finds_its_user_and_group() {
        let (mut users, mut groups) = (vec!["libvirt-qemu".into(), "qemu".into()], vec!["qemu".into(), "kvm".into()]);
        users.extend(compiled_in("user"));
        groups.extend(compiled_in("group"));
        for (names, file) in [(users, PASSWD), (groups, GROUP)] {
            for name in names {
                let id = file.lines().find_map(|line| line.strip_prefix(&format!("{name}:x:")));
                assert!(id.is_some(), "{name}: not in\n{file}");
            }
        }
    }
}
