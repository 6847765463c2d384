//! The embedded libvirt: its root directory, its connection, its events.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use crun_qemu::launch::{Ids, Launch, OpenFile};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use crate::lifecycle::{News, Stop};

/// libvirt's QEMU driver in a container, but for [`qemu_conf`]'s part: no labels, no cgroups, no namespaces and no log daemon. The filter is for the start: libvirt would ask QEMU for each of some 160 properties of the
/// CPU, one by one, before it lets the guest run; without that capability it asks one question, and the guest is the same.
const QEMU_CONF: &str = r#"dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
seccomp_sandbox = 1
capability_filters = ["cpu-unavailable-features"]
"#;

/// Whom QEMU is to be started as, and whether it is to keep the capabilities of the thread that starts it.
fn qemu_conf(user: Option<Ids>, keeps: bool) -> String {
    // A plus means a number, whatever users there are.
    let Ids { uid, gid } = user.unwrap_or(Ids { uid: 0, gid: 0 });
    let clear = u8::from(!keeps);
    format!("{QEMU_CONF}user = \"+{uid}\"\ngroup = \"+{gid}\"\nclear_emulator_capabilities = {clear}\n")
}

/// Makes libvirt's root directory, with what is known of the host's QEMU, so that it need not be asked again.
pub fn prepare(root: &Path, capabilities: Option<&Path>, launch: &Launch) -> Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc).context(etc.display())?;
    let conf = etc.join("qemu.conf");
    fs::write(&conf, qemu_conf(launch.user, launch.low_port)).context(conf.display())?;
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

/// Hands an open file to libvirt, for QEMU to have under the name that the domain has for it.
///
/// # Errors
/// When it cannot be opened.
pub fn hand_over(domain: &Domain, file: &OpenFile) -> Result<()> {
    let what = || file.path.display();
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let open = File::options().read(true).write(!file.read_only).custom_flags(flags).open(&file.path);
    let open = open.context(what())?;
    let name = CString::new(file.path.as_os_str().as_bytes()).context(what())?;
    let mut descriptor = open.as_raw_fd();
    // SAFETY: the domain, the name and the one descriptor are alive, and libvirt makes copies of the latter two.
    match unsafe { sys::virDomainFDAssociate(domain.as_ptr(), name.as_ptr(), 1, &raw mut descriptor, 0) } {
        0 => Ok(()),
        _ => Err(error(virt::error::Error::last_error())),
    }
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
    fn whom_qemu_is_started_as() {
        let last = |user, keeps| qemu_conf(user, keeps).lines().rev().take(3).collect::<Vec<_>>().join(" ");
        let own = Some(Ids { uid: 7, gid: 8 });
        assert_eq!(last(own, false), r#"clear_emulator_capabilities = 1 group = "+8" user = "+7""#);
        assert_eq!(last(None, true), r#"clear_emulator_capabilities = 0 group = "+0" user = "+0""#);
    }

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
