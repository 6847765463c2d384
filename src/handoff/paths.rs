//! Paths inside the container. The container's root is our skeleton, so these are constants.

/// Directory of our files in the skeleton.
pub const DIR: &str = "/crun-qemu";
/// The supervisor's executable.
pub const INIT: &str = "/crun-qemu/crun-qemu-init";
/// The supervisor's configuration, a [`crate::handoff::supervisor_config::SupervisorConfig`] as JSON.
pub const SUPERVISOR_CONFIG: &str = "/crun-qemu/supervisor.json";
/// Requested guest memory in bytes (decimal text); rewritten on every `podman update`.
pub const MEMORY: &str = "/crun-qemu/memory";
/// The VM image, read-only unless it takes the writes itself.
pub const IMAGE: &str = "/crun-qemu/image";
/// The qcow2 overlay that takes the guest's writes.
pub const OVERLAY: &str = "/crun-qemu/overlay.qcow2";
/// First-boot configuration, a disk labelled `cidata`.
pub const SEED: &str = "/crun-qemu/seed.img";
/// Ignition configuration, offered to every guest.
pub const IGNITION: &str = "/crun-qemu/config.ign";
/// The guest's set-up steps for shares, files and disks, for guests that run them on every boot.
pub const SETUP: &str = "/crun-qemu/setup";
/// Private key with which `podman exec` enters the guest.
pub const SSH_KEY: &str = "/crun-qemu/ssh/id";
/// UEFI variables.
pub const NVRAM: &str = "/crun-qemu/nvram.fd";
/// Read-only copy of the host's cache of QEMU's capabilities.
pub const CAPABILITIES: &str = "/crun-qemu/capabilities";
/// The user's own mounts are moved below this directory, which QEMU cannot enter.
pub const MOUNTS: &str = "/crun-qemu/mounts";
/// Block devices among them are in this one, for QEMU opens them.
pub const DISKS: &str = "/crun-qemu/disks";
/// The program that serves virtiofs, wherever the host has it.
pub const VIRTIOFSD: &str = "/crun-qemu/virtiofsd";
/// Sockets of virtiofsd, on a tmpfs.
pub const VIRTIOFS: &str = "/run/virtiofs";
/// Root of the embedded libvirt driver, on a tmpfs; short, because sockets lie below it.
pub const LIBVIRT: &str = "/run/v";
/// Log files of libvirt, QEMU and virtiofsd, on a tmpfs of their own: however much a guest makes them write, the rest
/// has room. libvirt chooses the place.
pub const LOGS: &str = "/run/v/log";
/// The supervisor listens here and QEMU connects the guest's serial port to it.
pub const CONSOLE: &str = "/run/console.sock";
/// The environment of `podman exec` reaches our process as variables of this name and a number, each holding one
/// `NAME=VALUE`: the loader must not see names such as LD_PRELOAD.
pub const EXEC_ENV: &str = "CRUN_QEMU_ENV_";
/// The whole environment of our processes in the container: nothing of the image's acts on them.
pub const ENVIRONMENT: &[&str] = &["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
/// Known host keys and control sockets of ssh, on a tmpfs.
pub const SSH_DIR: &str = "/run/crun-qemu-ssh";
/// The supervisor's mark of the VM's state, as JSON.
pub const STATUS: &str = "/run/status";
/// Locked by the supervisor for as long as the VM runs.
pub const ALIVE: &str = "/run/alive";
/// Locked by every exec that is at work in the guest.
pub const EXECS: &str = "/run/execs";
/// With QEMU's user network, port of the guest's sshd on the VM's own loopback address. It is below the range of ports
/// that the kernel assigns.
pub const SSH_PORT: u16 = 22022;
/// Directory of the fd store's socket, which exists until the supervisor has taken the descriptors.
pub const FD_STORE_DIR: &str = "/crun-qemu/fd-store";
/// Name of the fd store's socket.
pub const FD_STORE_SOCKET: &str = "socket";
