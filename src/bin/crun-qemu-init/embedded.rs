//! The embedded libvirt: its root directory, its connection, its events.

use std::fs;
use std::os::raw::{c_int, c_void};
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use virt::connect::Connect;
use virt::sys;

use crate::lifecycle::{News, Stop};

/// libvirt's QEMU driver in a container: no users to switch to, no labels, no capabilities to clear, no cgroups, no
/// namespaces and no log daemon. The filter is for the start: libvirt would ask QEMU for each of some 160 properties of the
/// CPU, one by one, before it lets the guest run; without that capability it asks one question, and the guest is the same.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
seccomp_sandbox = 1
clear_emulator_capabilities = 0
capability_filters = ["cpu-unavailable-features"]
"#;

/// Makes libvirt's root directory, with what is known of the host's QEMU, so that it need not be asked again.
pub fn prepare(root: &Path, capabilities: Option<&Path>) -> Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc).context(etc.display())?;
    let conf = etc.join("qemu.conf");
    fs::write(&conf, QEMU_CONF).context(conf.display())?;
    if let Some(from) = capabilities.filter(|c| c.is_dir()) {
        let to = root.join("cache/qemu/capabilities");
        fs::create_dir_all(&to).context(to.display())?;
        for entry in fs::read_dir(from).context(from.display())? {
            let entry = entry.context(from.display())?;
            if entry.file_type().is_ok_and(|t| t.is_file()) {
                fs::copy(entry.path(), to.join(entry.file_name())).context(entry.path().display())?;
            }
        }
    }
    Ok(())
}

/// Keeps libvirt from writing to stderr: errors come as values, and its log goes to a file below `root`.
///
/// To be called before there is a second thread.
pub fn quiet(root: &Path) {
    // SAFETY: the caller has started no thread yet, so that nobody reads the environment meanwhile.
    unsafe { std::env::set_var("LIBVIRT_LOG_OUTPUTS", format!("3:file:{}/libvirt.log", root.display())) };
    // SAFETY: as above; one arena less costs a thread of libvirt's some waiting and saves its own heap.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    virt::error::clear_error_callback();
}

/// Opens the driver below `root`. The event loop's default implementation is registered first, as libvirt wants it.
pub fn connect(root: &Path) -> Result<Connect> {
    virt::event::event_register_default_impl().map_err(error)?;
    Connect::open(Some(&format!("qemu:///embed?root={}", root.display()))).map_err(error)
}

/// Has libvirt know what QEMU can do: from the cache, or by asking QEMU.
pub fn learn_capabilities(connection: &Connect) -> Result<()> {
    connection.domain_capabilities(None, Some(std::env::consts::ARCH), None, None, 0).map_err(error)?;
    Ok(())
}

/// libvirt's error as ours.
pub fn error(e: virt::error::Error) -> Error {
    Error::new("libvirt", crate::qemu_log::one_line(e.message()))
}

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
    for (event, callback) in
        [(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle), (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(reboot_event as _))]
    {
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

/// The events that matter.
fn news(event: u32, detail: u32) -> Option<News> {
    match event {
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
            Some(News::ShuttingDown { by_guest: detail != sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST })
        }
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
}
