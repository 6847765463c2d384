//! What becomes of the container's mounts and devices.

use std::path::{Component, Path};

use oci_spec::runtime::Mount;

use super::attachments::{Attachments, Disk, DiskSource, FLAGS, Share, SharedFile, Tmpfs};
use crate::error::{Error, Result};
use crate::host::image::Format;
use crate::host::mount_sources::{BlockDevice, Source, Sources, is_bind};
use crate::request::blockdev::Blockdev;
use crate::request::engine::PODMAN;
use crate::request::{Device, Request, is_engine_init};

/// Mounts that the engine makes in every container and that serve the processes around the VM too. Directories are
/// meant with everything below them.
const KERNELS: &[&str] = &["/dev", "/proc", "/sys"];
/// Files that the engine makes for the container: nobody in it has to write them, and engines read them again.
const ENGINE_FILES: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
/// Of the kernel's those that everybody can write to, in a pod the other containers too, and that no process around the
/// VM needs.
const SHARED_MEMORY: &[&str] = &["/dev/mqueue", "/dev/shm"];
/// Mounts that the engine makes for the container's own programs, of which there are none.
const DROPPED: &[&str] = &["/run", "/run/lock", "/run/secrets", "/var/log/journal", "/dev/termination-log"];
/// The same, but only where the container's root is read-only: else the user asked for them.
const DROPPED_READ_ONLY: &[&str] = &["/tmp", "/var/tmp"];
/// No file system of a guest's takes a longer name, in bytes.
const LONGEST_NAME: usize = 255;

/// Sorts the mounts and devices.
///
/// # Errors
/// What cannot be the guest's, and two things at one path.
pub(super) fn sort(request: &Request, sources: &Sources) -> Result<Attachments> {
    let mut attachments = Attachments::default();
    let blockdevs = &request.options.blockdevs;
    for (index, mount) in request.mounts.iter().enumerate() {
        let source = sources.mounts.get(index).unwrap_or(&Source::Directory);
        if !blockdevs.iter().any(|b| mount.destination() == Path::new(&b.source)) {
            sort_mount(&mut attachments, request, index, mount, source)?;
        }
    }
    for (index, device) in request.devices.iter().enumerate() {
        let source = sources.devices.get(index).copied().flatten();
        attachments.disks.extend(disk_of_device(request, index, device, source)?);
    }
    for (n, blockdev) in blockdevs.iter().enumerate() {
        if blockdevs[..n].iter().any(|other| other.source == blockdev.source) {
            let what = format!("--blockdev source={}", blockdev.source);
            return Err(Error::new(what, "it is a disk already").hint("give a copy, or an overlay of its own"));
        }
        attachments.disks.push(disk_of_file(blockdev, request, sources)?);
    }
    finish(attachments)
}

fn sort_mount(
    attachments: &mut Attachments,
    request: &Request,
    index: usize,
    mount: &Mount,
    source: &Source,
) -> Result<()> {
    let target = mount.destination().to_string_lossy().into_owned();
    let what = format!("mount {target}");
    let read_only = is_read_only(mount);
    match source {
        // All the host's devices come so with --privileged of a rootless podman: nobody asked for one of them.
        Source::Block(_)
            if request.all_devices
                && request.mapped_root.is_some()
                && mount.source().as_deref() == Some(mount.destination()) =>
        {
            attachments.kept.push(index);
            return Ok(());
        }
        Source::Block(device) => {
            let disk = DiskSource::Mounted(index, *device);
            attachments.disks.push(disk_of_block(&what, disk, target, read_only, *device)?);
            return Ok(());
        }
        Source::CharDevice if !request.all_devices && has_rbind(request, mount) && !is_useful(&target) => {
            return Err(no_char_device(what));
        }
        _ if is_users(request, mount) => {}
        _ if ENGINE_FILES.contains(&&*target) => {
            attachments.engine_files.push((index, target));
            return Ok(());
        }
        _ if SHARED_MEMORY.contains(&&*target) && is_the_kernels(mount) => return Ok(()),
        _ if is_below(&target, KERNELS) && is_the_kernels(mount) => {
            attachments.kept.push(index);
            return Ok(());
        }
        _ if DROPPED.contains(&&*target) || is_engine_init(&target) || is_for_read_only_root(request, mount) => {
            return Ok(());
        }
        _ => {}
    }
    check_target(&what, &target)?;
    match source {
        _ if mount.typ().as_deref() == Some("tmpfs") => attachments.tmpfs.push(tmpfs(mount, target)),
        Source::Directory if is_bind(mount) || mount.typ().as_deref() == Some("overlay") => {
            attachments.shares.push(Share { number: 0, mount: index, target, read_only, flags: flags(mount) });
        }
        Source::Directory => return Err(Error::new(what, "a file system that cannot be passed to a guest")),
        Source::File => {
            let secret = is_secret(request, mount);
            let read_only = read_only || secret;
            attachments.files.push(SharedFile {
                number: 0,
                mount: index,
                target,
                read_only,
                flags: flags(mount),
                secret,
            });
        }
        Source::CharDevice => return Err(no_char_device(what)),
        Source::Other(kind) => {
            return Err(Error::new(what, format!("its source is {kind}, of which a guest can make no use")));
        }
        Source::Unusable(why) => return Err(Error::new(what, format!("its source cannot be used: {why}"))),
        Source::Block(_) => {}
    }
    Ok(())
}

fn is_read_only(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|o| o == "ro" || o == "rro")
}

fn flags(mount: &Mount) -> Vec<&'static str> {
    let has = |flag: &&str| mount.options().iter().flatten().any(|o| o == flag);
    FLAGS.into_iter().filter(has).collect()
}

/// podman makes its own binds without `rbind`, and the user's with it.
fn has_rbind(request: &Request, mount: &Mount) -> bool {
    request.engine.as_deref() == Some(PODMAN) && mount.options().iter().flatten().any(|o| o == "rbind")
}

/// Whether it is certain that the user asked for it. What shows the kernel's own directories is podman's.
fn is_users(request: &Request, mount: &Mount) -> bool {
    let source = mount.source().as_deref();
    has_rbind(request, mount) && !source.is_some_and(|s| KERNELS.iter().any(|dir| s.starts_with(dir)))
}

fn is_for_read_only_root(request: &Request, mount: &Mount) -> bool {
    let target = mount.destination().to_string_lossy();
    let sized = mount.options().iter().flatten().any(|o| o.starts_with("size=") || o.starts_with("mode="));
    request.root_readonly && DROPPED_READ_ONLY.contains(&&*target) && mount.typ().as_deref() == Some("tmpfs") && !sized
}

/// podman keeps a container's secrets in its bundle, one file each; of other engines the path tells.
fn is_secret(request: &Request, mount: &Mount) -> bool {
    if request.engine.as_deref() != Some(PODMAN) {
        return mount.destination().starts_with("/run/secrets");
    }
    mount.source().as_deref().and_then(|s| s.parent()).is_some_and(|dir| dir.ends_with("userdata/secrets"))
}

fn is_below(path: &str, dirs: &[&str]) -> bool {
    dirs.iter().any(|dir| Path::new(path).starts_with(dir))
}

/// Whether what is below `/dev`, `/proc` or `/sys` shows something of the kernel's or an empty directory. The rest is a
/// directory of somebody's: an image's `VOLUME /proc` would be a forged one.
fn is_the_kernels(mount: &Mount) -> bool {
    let (destination, source) = (mount.destination(), mount.source().as_deref());
    let from_kernel = source.is_some_and(|s| KERNELS.iter().any(|dir| s.starts_with(dir)));
    match mount.typ().as_deref() {
        _ if is_bind(mount) => from_kernel || destination == Path::new("/dev/shm"),
        Some("tmpfs") => destination.starts_with("/dev"),
        _ => true,
    }
}

/// A path at which a guest can have a file or directory.
fn check_target(what: &str, target: &str) -> Result<()> {
    const OWN: &str = "the guest has its own there";
    if is_below(target, KERNELS) || ["/", "/run", "/run/lock"].contains(&target) {
        return Err(Error::new(what, OWN));
    }
    check_path(what, target)
}

fn check_path(what: &str, target: &str) -> Result<()> {
    let parts = Path::new(target).components();
    let plain = parts.clone().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain || !target.starts_with('/') {
        return Err(Error::new(what, "not an absolute path without \"..\""));
    }
    match parts.map(|part| part.as_os_str().len()).max() {
        Some(longest) if longest > LONGEST_NAME => Err(Error::new(
            what,
            format!("a name of {longest} bytes, and no guest has longer ones than {LONGEST_NAME}"),
        )),
        _ => Ok(()),
    }
}

/// podman's options that mean something in the guest.
fn tmpfs(mount: &Mount, target: String) -> Tmpfs {
    const FLAGS: &[&str] = &["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime"];
    const VALUES: &[&str] = &["size=", "mode=", "nr_inodes=", "nr_blocks=", "uid=", "gid="];
    let passes = |o: &&String| FLAGS.contains(&o.as_str()) || VALUES.iter().any(|name| o.starts_with(name));
    let all = || mount.options().iter().flatten();
    Tmpfs { target, options: all().filter(passes).cloned().collect(), copy_up: all().any(|o| o == "tmpcopyup") }
}

/// Character devices that serve QEMU.
const USEFUL: &[&str] = &["/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vfio"];

fn is_useful(path: &str) -> bool {
    is_below(path, USEFUL)
}

fn no_char_device(what: String) -> Error {
    Error::new(what, "a character device of the host's means nothing in a guest")
        .hint("block devices are passed as disks, PCI devices by --vfio-pci")
}

/// A disk for a block device that the engine granted by name.
fn disk_of_device(
    request: &Request,
    index: usize,
    device: &Device,
    source: Option<BlockDevice>,
) -> Result<Option<Disk>> {
    // All the host's devices come with --privileged: nobody asked for one of them.
    if request.all_devices {
        return Ok(None);
    }
    let what = format!("--device {}", device.path);
    if !device.is_block {
        return if is_useful(&device.path) { Ok(None) } else { Err(no_char_device(what)) };
    }
    let gone = || Error::new(&what, format!("there is no block device {}:{}", device.major, device.minor));
    let source = source.ok_or_else(gone)?;
    let disk = DiskSource::Device(index, source);
    disk_of_block(&what, disk, device.path.clone(), !device.writable, source).map(Some)
}

fn disk_of_block(what: &str, source: DiskSource, target: String, read_only: bool, device: BlockDevice) -> Result<Disk> {
    check_path(what, &target)?;
    if device.read_only && !read_only {
        let hint = match source {
            DiskSource::Device(..) => "--device SOURCE:TARGET:r",
            _ => "-v SOURCE:TARGET:ro",
        };
        return Err(Error::new(what, "the block device is read-only, and writing was asked for").hint(hint));
    }
    Ok(Disk { number: 0, source, target, format: Format::Raw, read_only })
}

/// A disk for a file that the engine granted with a mount.
fn disk_of_file(blockdev: &Blockdev, request: &Request, sources: &Sources) -> Result<Disk> {
    let Blockdev { source, target, format, read_only } = blockdev.clone();
    let what = format!("--blockdev source={source}");
    let index = request.mounts.iter().position(|m| m.destination() == Path::new(&source));
    let Some(index) = index else {
        return Err(Error::new(what, "the engine granted no such file").hint(format!("-v FILE:{source}")));
    };
    match sources.mounts.get(index) {
        Some(Source::File) => {}
        Some(Source::Unusable(why)) => return Err(Error::new(what, why)),
        _ => return Err(Error::new(what, "not a regular file").hint("block devices need -v or --device alone")),
    }
    if !read_only && is_read_only(&request.mounts[index]) {
        return Err(Error::new(what, "the mount is read-only, and writing was asked for").hint("readonly=on"));
    }
    check_path(&what, &target)?;
    Ok(Disk { number: 0, source: DiskSource::File(index), target, format, read_only })
}

/// Puts all in order and refuses two things at one path.
fn finish(mut attachments: Attachments) -> Result<Attachments> {
    attachments.shares.sort_by(|a, b| a.target.cmp(&b.target));
    attachments.files.sort_by(|a, b| a.target.cmp(&b.target));
    attachments.disks.sort_by(|a, b| a.target.cmp(&b.target));
    attachments.shares.iter_mut().enumerate().for_each(|(number, share)| share.number = number);
    attachments.files.iter_mut().enumerate().for_each(|(number, file)| file.number = number);
    attachments.disks.iter_mut().enumerate().for_each(|(number, disk)| disk.number = number);
    let mut targets: Vec<&str> = attachments.shares.iter().map(|s| s.target.as_str()).collect();
    targets.extend(attachments.files.iter().map(|f| f.target.as_str()));
    targets.extend(attachments.tmpfs.iter().map(|t| t.target.as_str()));
    targets.extend(attachments.disks.iter().map(|d| d.target.as_str()));
    targets.sort_unstable();
    match targets.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::new(pair[0], "two things are to be there in the guest")),
        None => Ok(attachments),
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
