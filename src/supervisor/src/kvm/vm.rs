//! A VM of KVM's own, as small as can be: some memory, a firmware, one CPU. The numbers and offsets are those of
//! `linux/kvm.h`, which the kernel never changes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

use super::program;

const KVM_CREATE_VM: libc::c_ulong = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: libc::c_ulong = 0xae04;
const KVM_GET_SUPPORTED_CPUID: libc::c_ulong = 0xc008_ae05;
const KVM_CREATE_VCPU: libc::c_ulong = 0xae41;
const KVM_SET_USER_MEMORY_REGION: libc::c_ulong = 0x4020_ae46;
const KVM_SET_TSS_ADDR: libc::c_ulong = 0xae47;
const KVM_SET_IDENTITY_MAP_ADDR: libc::c_ulong = 0x4008_ae48;
const KVM_RUN: libc::c_ulong = 0xae80;
const KVM_SET_CPUID2: libc::c_ulong = 0x4008_ae90;

/// Memory from address 0 on, bytes: the program's stack is in it.
const MEMORY: usize = 64 << 10;
/// Address at which some Intel CPUs need four pages of their own.
const TSS: u64 = 0xfeff_d000;
const IDENTITY_MAP: u64 = TSS - 0x1000;
/// More than any CPU has.
const CPUID_ENTRIES: usize = 512;

/// Why the CPU has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// To write this byte to the program's port.
    Said(u8),
    /// By `hlt`.
    Halted,
    /// `KVM_EXIT_INTERNAL_ERROR`, and which.
    InternalError(u32),
    /// Another `KVM_EXIT_…`.
    Other(u32),
}

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
struct Region {
    slot: u32,
    flags: u32,
    guest_address: u64,
    size: u64,
    user_address: u64,
}

/// `struct kvm_cpuid2`.
#[repr(C)]
struct Cpuid {
    count: u32,
    padding: u32,
    entries: [[u32; 10]; CPUID_ENTRIES],
}

/// The VM.
pub struct Vm {
    cpu: File,
    /// `struct kvm_run`, shared with the kernel.
    run: Mapping,
    _memory: [Mapping; 2],
    _vm: File,
}

impl Vm {
    /// A VM whose CPU is at the reset vector of `firmware`.
    pub fn new(firmware: &[u8]) -> io::Result<Self> {
        let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
        let vm = opened(ioctl(&kvm, KVM_CREATE_VM, 0)?);
        let memory = [Mapping::anonymous(MEMORY)?, Mapping::anonymous(firmware.len())?];
        memory[1].write(firmware);
        for (n, (mapping, address)) in memory.iter().zip([0, program::ADDRESS]).enumerate() {
            let (slot, size) = (n as u32, mapping.length as u64);
            let user_address = mapping.start.as_ptr() as u64;
            let region = Region { slot, flags: 0, guest_address: address, size, user_address };
            ioctl(&vm, KVM_SET_USER_MEMORY_REGION, &raw const region as libc::c_ulong)?;
        }
        // Other CPUs have no use for it, and some kernels no such call.
        let identity_map = IDENTITY_MAP;
        let _ = ioctl(&vm, KVM_SET_IDENTITY_MAP_ADDR, &raw const identity_map as libc::c_ulong);
        let _ = ioctl(&vm, KVM_SET_TSS_ADDR, TSS);
        let cpu = opened(ioctl(&vm, KVM_CREATE_VCPU, 0)?);
        // Without it the CPU has no long mode.
        let mut cpuid = Box::new(Cpuid { count: CPUID_ENTRIES as u32, padding: 0, entries: [[0; 10]; CPUID_ENTRIES] });
        ioctl(&kvm, KVM_GET_SUPPORTED_CPUID, &raw mut *cpuid as libc::c_ulong)?;
        ioctl(&cpu, KVM_SET_CPUID2, &raw const *cpuid as libc::c_ulong)?;
        let length = ioctl(&kvm, KVM_GET_VCPU_MMAP_SIZE, 0)? as usize;
        let run = Mapping::of(&cpu, length)?;
        Ok(Self { cpu, run, _memory: memory, _vm: vm })
    }

    /// Runs it to its next stop.
    pub fn run(&mut self) -> io::Result<Exit> {
        while let Err(e) = ioctl(&self.cpu, KVM_RUN, 0) {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        Ok(match self.run.u32(8) {
            // A byte out: direction, size, port, how many, and where in the page.
            2 if self.run.u32(32) == 0x101 | u32::from(program::PORT) << 16 && self.run.u32(36) == 1 => {
                Exit::Said(self.run.u32(self.run.u32(40) as usize) as u8)
            }
            5 => Exit::Halted,
            17 => Exit::InternalError(self.run.u32(32)),
            other => Exit::Other(other),
        })
    }
}

fn opened(fd: i32) -> File {
    // SAFETY: a new descriptor that nobody else has.
    unsafe { File::from_raw_fd(fd) }
}

fn ioctl(file: &File, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the argument is a number, or the address of what the request reads and writes, which outlives the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Memory that others write to as well.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn anonymous(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn of(file: &File, length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn map(length: usize, flags: i32, fd: i32) -> io::Result<Self> {
        // SAFETY: a new mapping, of nothing that Rust knows.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
        match NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Self { start, length }),
            None => Err(io::Error::last_os_error()),
        }
    }

    fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length);
        // SAFETY: it fits, and the VM that shares the memory does not run yet.
        unsafe { self.start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// The number at this offset; 0 beyond the end.
    fn u32(&self, at: usize) -> u32 {
        if at.checked_add(4).is_none_or(|end| end > self.length) {
            return 0;
        }
        // SAFETY: it is within the mapping, and the CPU that shares it has stopped.
        unsafe { self.start.as_ptr().add(at).cast::<u32>().read_unaligned() }
    }
}
