//! The tap as an interface: what ioctls are needed for.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_short, ifreq};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::addresses::{Addresses, NETMASK};
use crate::error::{Context, Error, Result};

/// Path in the root of the process that sets up the network.
const TUN: &str = "/dev/net/tun";

/// The driver of taps, as it calls itself.
const TUN_DRIVER: &str = "tun";
/// `ETHTOOL_GDRVINFO` of the kernel's `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 3;

/// The kernel's `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, the place on the bus, numbers of other requests' answers.
    rest: [u8; 160],
}

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, ifreq);
nix::ioctl_write_ptr_bad!(tun_set_queue, libc::TUNSETQUEUE, ifreq);
nix::ioctl_write_int_bad!(tun_set_persist, libc::TUNSETPERSIST);
nix::ioctl_write_int_bad!(tun_set_owner, libc::TUNSETOWNER);
nix::ioctl_write_ptr_bad!(ethtool, libc::SIOCETHTOOL, ifreq);
nix::ioctl_readwrite_bad!(get_mtu, libc::SIOCGIFMTU, ifreq);
nix::ioctl_readwrite_bad!(get_flags, libc::SIOCGIFFLAGS, ifreq);
nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, ifreq);
nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, ifreq);
nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, ifreq);
nix::ioctl_write_ptr_bad!(set_netmask, libc::SIOCSIFNETMASK, ifreq);

/// An open tap. Closing it removes the tap unless another process holds it or it was made persistent.
pub(super) struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Makes the tap, or takes the one that is there. `owner` may open it without privileges.
    ///
    /// A tap has as many queues as there are descriptors: one, unless `held` leaves room for QEMU's beside the
    /// holder's, which is idle.
    pub fn create(name: &str, owner: u32, held: bool) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(TUN).map_err(|e| {
            let hint = match e.kind() {
                ErrorKind::PermissionDenied => {
                    "the user and the container's device rules must allow it; for the user: chmod 666 /dev/net/tun"
                }
                _ => "load the kernel module: modprobe tun",
            };
            Error::new(TUN, e.to_string()).hint(hint)
        })?;
        let what = || format!("tap {name}");
        let mut request = request(name)?;
        // The same flags as QEMU's, which opens the tap by name.
        let queues = if held { libc::IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues) as c_short;
        // SAFETY: the kernel reads one ifreq, which lives until the call returns.
        unsafe { tun_set_iff(file.as_raw_fd(), &raw const request) }.context(what())?;
        // SAFETY: the argument is a number; the bits of a uid are passed as they are.
        unsafe { tun_set_owner(file.as_raw_fd(), owner as c_int) }.context(what())?;
        if held {
            request.ifr_ifru.ifru_flags = libc::IFF_DETACH_QUEUE as c_short;
            // SAFETY: as above.
            unsafe { tun_set_queue(file.as_raw_fd(), &raw const request) }.context(what())?;
        }
        Ok(Self { file, name: name.to_owned() })
    }

    /// Has the tap stay for as long as its namespace.
    pub fn persist(self) -> Result<()> {
        // SAFETY: the argument is a number.
        unsafe { tun_set_persist(self.file.as_raw_fd(), 1) }.context(format!("tap {}", self.name))?;
        Ok(())
    }

    /// The descriptor that holds the tap.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }
}

/// Bytes of the largest packet on an interface.
pub fn mtu(name: &str) -> Result<u32> {
    let mut request = request(name)?;
    // SAFETY: the kernel reads and writes one ifreq, which lives until the call returns.
    unsafe { get_mtu(control()?.as_raw_fd(), &raw mut request) }.context(format!("MTU of {name}"))?;
    // SAFETY: the kernel has written this member; any bits are an integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).context(format!("MTU of {name}"))
}

/// Whether an interface belongs to a program, as a tap does.
pub(super) fn is_tun(name: &str) -> bool {
    driver(name).is_ok_and(|driver| driver == TUN_DRIVER)
}

fn driver(name: &str) -> Result<String> {
    let mut request = request(name)?;
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the kernel reads one ifreq and writes what that points to, of this size; both live until the call
    // returns.
    unsafe { ethtool(control()?.as_raw_fd(), &raw const request) }.context(format!("driver of {name}"))?;
    Ok(info.driver.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
}

/// Gives the tap its address and MTU.
pub(super) fn configure(name: &str, addresses: &Addresses) -> Result<()> {
    let control = control()?;
    let what = || format!("address {} of {name}", addresses.gateway);
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = c_int::try_from(addresses.mtu).context(what())?;
    // SAFETY: here and below the kernel reads one ifreq, which lives until the call returns.
    unsafe { set_mtu(control.as_raw_fd(), &raw const request) }.context(format!("MTU {} of {name}", addresses.mtu))?;
    request.ifr_ifru.ifru_addr = socket_address(addresses.gateway);
    // SAFETY: as above.
    unsafe { set_address(control.as_raw_fd(), &raw const request) }.context(what())?;
    request.ifr_ifru.ifru_addr = socket_address(NETMASK);
    // SAFETY: as above.
    unsafe { set_netmask(control.as_raw_fd(), &raw const request) }.context(what())?;
    Ok(())
}

/// Brings the tap up.
pub(super) fn up(name: &str) -> Result<()> {
    let control = control()?;
    let mut request = request(name)?;
    // SAFETY: the kernel reads and writes one ifreq, which lives until the call returns.
    unsafe { get_flags(control.as_raw_fd(), &raw mut request) }.context(format!("tap {name}"))?;
    // SAFETY: the kernel has written this member; any bits are an integer.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as c_short;
    // SAFETY: the kernel reads one ifreq, which lives until the call returns.
    unsafe { set_flags(control.as_raw_fd(), &raw const request) }.context(format!("tap {name}"))?;
    Ok(())
}

/// Any socket will do for the ioctls of interfaces.
fn control() -> Result<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context("socket")
}

/// A request about an interface, zero but for the name.
fn request(name: &str) -> Result<ifreq> {
    // SAFETY: ifreq is plain data for which zeros are valid.
    let mut request: ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(Error::new(format!("network interface {name:?}"), "a name has 1 to 15 characters"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// An address as `sockaddr_in` lays it out: two bytes of port, then the address.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data: [libc::c_char; 14] = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_mtu_and_nonsense_has_none() {
        assert!(mtu("lo").unwrap() >= 1500);
        for name in ["", "no-such-if", "a-name-of-16-chr"] {
            assert!(mtu(name).is_err(), "{name:?}");
        }
    }
}
