//! Sorting of the container's mounts and devices.

use std::path::{Component, Path};

use oci_spec::runtime::Mount;

use super::attachments::{Attachments, Disk, DiskSource, FLAGS, Share, SharedFile, Tmpfs};
use crate::engine::mounts::{KERNEL, Purpose, is_below, is_bind};
use crate::error::{Error, Result};
use crate::host::image::Format;
use crate::host::mount_sources::{BlockDevice, Source, Sources};
use crate::request::blockdev::Blockdev;
use crate::request::{Device, Request};

/// No file system of a guest's takes a longer name, in bytes.
const LONGEST_NAME: usize = 255;

/// Sorts the mounts and devices.
///
/// # Errors
/// A mount or device cannot be the guest's, or two have one path in the guest.
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
    let engine = request.engine;
    match source {
        // A rootless podman binds every host device for --privileged: the user asked for none of them in particular.
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
        Source::CharDevice if !request.all_devices && engine.marks_user_bind(mount) && !is_useful(&target) => {
            return Err(no_char_device(what));
        }
        _ => {}
    }
    match engine.purpose(mount, request.root_readonly) {
        Purpose::User => {}
        Purpose::EngineFile => {
            attachments.engine_files.push((index, target));
            return Ok(());
        }
        Purpose::Kernel => {
            attachments.kept.push(index);
            return Ok(());
        }
        Purpose::Programs => return Ok(()),
    }
    check_target(&what, &target)?;
    match source {
        _ if mount.typ().as_deref() == Some("tmpfs") => attachments.tmpfs.push(tmpfs(mount, target)),
        Source::Directory if is_bind(mount) || mount.typ().as_deref() == Some("overlay") => {
            attachments.shares.push(Share { number: 0, mount: index, target, read_only, flags: flags(mount) });
        }
        Source::Directory => return Err(Error::new(what, "a file system that cannot be passed to a guest")),
        Source::File => {
            let secret = engine.is_secret(mount);
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
            return Err(Error::new(what, format!("its source is {kind}, which a guest cannot use")));
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

/// A path at which a guest can have a file or directory.
fn check_target(what: &str, target: &str) -> Result<()> {
    const OWN: &str = "the guest has its own there";
    if is_below(target, KERNEL) || ["/", "/run", "/run/lock"].contains(&target) {
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
        Some(longest) if longest > LONGEST_NAME => {
            Err(Error::new(what, format!("a name of {longest} bytes, and no guest supports more than {LONGEST_NAME}")))
        }
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
    Error::new(what, "a host character device has no meaning in a guest")
        .hint("block devices are passed as disks, PCI devices by --vfio-pci")
}

/// A disk for a block device that the engine granted by name.
fn disk_of_device(
    request: &Request,
    index: usize,
    device: &Device,
    source: Option<BlockDevice>,
) -> Result<Option<Disk>> {
    // With --privileged the container has every host device: the user asked for none of them in particular.
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
        Some(pair) => Err(Error::new(pair[0], "two mounts or devices have this path in the guest")),
        None => Ok(attachments),
    }
}

#[cfg(test)]
mod tests;
