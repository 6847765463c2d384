//! libvirt's events as [`VmEvent`]s.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};

use crun_qemu::domain;
use crun_qemu::error::Result;
use virt::connect::Connect;
use virt::sys;

use crate::embedded::error;
use crate::lifecycle::{DiskFailure, Stop, VmEvent};

/// Calls `send` with every change of a domain's state; it runs in the thread of the event loop.
pub fn watch(connection: &Connect, send: impl Fn(VmEvent) + 'static) -> Result<()> {
    // A plain function pointer's worth of data: the boxed closure's own address is handed through C.
    let send: Box<Box<dyn Fn(VmEvent)>> = Box::new(Box::new(send));
    let send = Box::into_raw(send).cast();
    // SAFETY: for the lifecycle event libvirt calls back with the arguments of `lifecycle_event`; the generic type is
    // what its interface asks to cast to.
    let lifecycle = unsafe {
        std::mem::transmute::<sys::virConnectDomainEventCallback, sys::virConnectDomainEventGenericCallback>(Some(
            lifecycle_event,
        ))
    };
    // SAFETY: as above, with the arguments of `disk_event`.
    let disk = unsafe {
        std::mem::transmute::<sys::virConnectDomainEventIOErrorReasonCallback, sys::virConnectDomainEventGenericCallback>(
            Some(disk_event),
        )
    };
    for (event, callback) in [
        (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(reboot_event as _)),
        (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, disk),
    ] {
        // SAFETY: the connection is alive, a null domain stands for all, the callback is of the event's kind, and the
        // closure is never freed.
        let id = unsafe {
            let all = std::ptr::null_mut();
            sys::virConnectDomainEventRegisterAny(connection.as_ptr(), all, event as c_int, callback, send, None)
        };
        if id < 0 {
            return Err(error(virt::error::Error::last_error()));
        }
    }
    Ok(())
}

unsafe extern "C" fn reboot_event(_: sys::virConnectPtr, _: sys::virDomainPtr, send: *mut c_void) {
    // SAFETY: `send` is the closure that `watch` registered, which is never freed.
    let send = unsafe { &*send.cast::<Box<dyn Fn(VmEvent)>>() };
    send(VmEvent::Rebooted);
}

unsafe extern "C" fn lifecycle_event(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    send: *mut c_void,
) -> c_int {
    // SAFETY: `send` is the closure that `watch` registered, which is never freed.
    let send = unsafe { &*send.cast::<Box<dyn Fn(VmEvent)>>() };
    if let Some(event) = vm_event(event as u32, detail as u32) {
        send(event);
    }
    0
}

unsafe extern "C" fn disk_event(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    _path: *const c_char,
    alias: *const c_char,
    action: c_int,
    reason: *const c_char,
    send: *mut c_void,
) {
    let text = |text: *const c_char| {
        // SAFETY: libvirt's strings are null or end with a zero, and live as long as the call.
        if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
    };
    // SAFETY: `send` is the closure that `watch` registered, which is never freed.
    let send = unsafe { &*send.cast::<Box<dyn Fn(VmEvent)>>() };
    send(VmEvent::DiskFailed(disk_failure(&text(alias), action as u32, &text(reason))));
}

/// libvirt's alias for the device contains the disk's number, from which the domain's name for it follows.
fn disk_failure(alias: &str, action: u32, reason: &str) -> DiskFailure {
    let number = alias.strip_prefix("virtio-disk").and_then(|n| n.parse().ok());
    DiskFailure {
        disk: number.map_or_else(|| alias.to_owned(), domain::disk_name),
        full: reason == "enospc",
        pauses: action == sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE,
    }
}

/// The events that matter.
fn vm_event(event: u32, detail: u32) -> Option<VmEvent> {
    match event {
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
            Some(VmEvent::ShuttingDown { by_guest: detail != sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST })
        }
        sys::VIR_DOMAIN_EVENT_SUSPENDED => {
            Some(VmEvent::Paused { by_disk: detail == sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR })
        }
        sys::VIR_DOMAIN_EVENT_RESUMED => Some(VmEvent::GoesOn),
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => Some(VmEvent::Asleep),
        sys::VIR_DOMAIN_EVENT_STOPPED => Some(VmEvent::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => Stop::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => Stop::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => Stop::Crashed,
            _ => Stop::Failed,
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        for (event, detail, want) in [
            (sys::VIR_DOMAIN_EVENT_STARTED, 0, None),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
                Some(VmEvent::Paused { by_disk: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED,
                Some(VmEvent::Paused { by_disk: false }),
            ),
            (sys::VIR_DOMAIN_EVENT_RESUMED, sys::VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, Some(VmEvent::GoesOn)),
            (sys::VIR_DOMAIN_EVENT_PMSUSPENDED, 0, Some(VmEvent::Asleep)),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST,
                Some(VmEvent::ShuttingDown { by_guest: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED,
                Some(VmEvent::ShuttingDown { by_guest: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST,
                Some(VmEvent::ShuttingDown { by_guest: false }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
                Some(VmEvent::Stopped(Stop::Shutdown)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
                Some(VmEvent::Stopped(Stop::Destroyed)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED,
                Some(VmEvent::Stopped(Stop::Crashed)),
            ),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED, Some(VmEvent::Stopped(Stop::Failed))),
        ] {
            assert_eq!(vm_event(event, detail), want, "{event} {detail}");
        }
    }

    #[test]
    fn failures_of_disks() {
        let failure = |disk: &str, full, pauses| DiskFailure { disk: disk.into(), full, pauses };
        for (alias, action, reason, want) in [
            ("virtio-disk0", sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, "enospc", failure("vda", true, true)),
            ("virtio-disk27", sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, "", failure("vdab", false, true)),
            ("virtio-disk2", sys::VIR_DOMAIN_EVENT_IO_ERROR_REPORT, "", failure("vdc", false, false)),
            ("scsi0-0-0-1", sys::VIR_DOMAIN_EVENT_IO_ERROR_REPORT, "", failure("scsi0-0-0-1", false, false)),
        ] {
            assert_eq!(disk_failure(alias, action, reason), want, "{alias}");
        }
    }
}
