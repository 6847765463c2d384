//! libvirt's events as news.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};

use crun_qemu::domain;
use crun_qemu::error::Result;
use virt::connect::Connect;
use virt::sys;

use crate::embedded::error;
use crate::lifecycle::{DiskFailure, News, Stop};

/// Calls `tell` with every change of a domain's state; it runs in the thread of the event loop.
pub fn watch(connection: &Connect, tell: impl Fn(News) + 'static) -> Result<()> {
    // A plain function pointer's worth of data: the boxed closure's own address is handed through C.
    let tell: Box<Box<dyn Fn(News)>> = Box::new(Box::new(tell));
    let tell = Box::into_raw(tell).cast();
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
            sys::virConnectDomainEventRegisterAny(connection.as_ptr(), all, event as c_int, callback, tell, None)
        };
        if id < 0 {
            return Err(error(virt::error::Error::last_error()));
        }
    }
    Ok(())
}

unsafe extern "C" fn reboot_event(_: sys::virConnectPtr, _: sys::virDomainPtr, tell: *mut c_void) {
    // SAFETY: `tell` is the closure that `watch` registered, which is never freed.
    let tell = unsafe { &*tell.cast::<Box<dyn Fn(News)>>() };
    tell(News::Rebooted);
}

unsafe extern "C" fn lifecycle_event(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    tell: *mut c_void,
) -> c_int {
    // SAFETY: `tell` is the closure that `watch` registered, which is never freed.
    let tell = unsafe { &*tell.cast::<Box<dyn Fn(News)>>() };
    if let Some(news) = news(event as u32, detail as u32) {
        tell(news);
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
    tell: *mut c_void,
) {
    let text = |text: *const c_char| {
        // SAFETY: libvirt's strings are null or end with a zero, and live as long as the call.
        if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
    };
    // SAFETY: `tell` is the closure that `watch` registered, which is never freed.
    let tell = unsafe { &*tell.cast::<Box<dyn Fn(News)>>() };
    tell(News::DiskFailed(disk_failure(&text(alias), action as u32, &text(reason))));
}

/// libvirt's name for the device tells the disk's number, the rest is the domain's name for it.
fn disk_failure(alias: &str, action: u32, reason: &str) -> DiskFailure {
    let number = alias.strip_prefix("virtio-disk").and_then(|n| n.parse().ok());
    DiskFailure {
        disk: number.map_or_else(|| alias.to_owned(), domain::disk_name),
        full: reason == "enospc",
        pauses: action == sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE,
    }
}

/// The events that matter.
fn news(event: u32, detail: u32) -> Option<News> {
    match event {
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
            Some(News::ShuttingDown { by_guest: detail != sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST })
        }
        sys::VIR_DOMAIN_EVENT_SUSPENDED => {
            Some(News::Paused { by_disk: detail == sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR })
        }
        sys::VIR_DOMAIN_EVENT_RESUMED => Some(News::GoesOn),
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => Some(News::Asleep),
        sys::VIR_DOMAIN_EVENT_STOPPED => Some(News::Stopped(match detail {
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
                Some(News::Paused { by_disk: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED,
                Some(News::Paused { by_disk: false }),
            ),
            (sys::VIR_DOMAIN_EVENT_RESUMED, sys::VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, Some(News::GoesOn)),
            (sys::VIR_DOMAIN_EVENT_PMSUSPENDED, 0, Some(News::Asleep)),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST,
                Some(News::ShuttingDown { by_guest: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED,
                Some(News::ShuttingDown { by_guest: true }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST,
                Some(News::ShuttingDown { by_guest: false }),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
                Some(News::Stopped(Stop::Shutdown)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
                Some(News::Stopped(Stop::Destroyed)),
            ),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED, Some(News::Stopped(Stop::Crashed))),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED, Some(News::Stopped(Stop::Failed))),
        ] {
            assert_eq!(news(event, detail), want, "{event} {detail}");
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
