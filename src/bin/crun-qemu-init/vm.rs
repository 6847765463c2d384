//! The VM: libvirt's QEMU driver in this process, one domain.

use std::ffi::{c_int, c_void};
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use crun_qemu::error::{Context, Error, Result};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::{error as libvirt, event, sys};

/// QEMU runs as the container's root, which has no capabilities left, and everything that libvirt does for it on a
/// host of many VMs is off: the container around it does that.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
seccomp_sandbox = 1
"#;

/// Where libvirt's driver keeps, below its root, what it learnt of QEMU.
pub const CAPABILITIES: &str = "cache/qemu/capabilities";

/// How the VM ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The guest switched the machine off.
    PoweredOff,
    /// We ended it.
    Destroyed,
    /// The guest's kernel panicked.
    Panicked,
    /// QEMU went away by itself.
    Failed,
}

impl End {
    fn from_detail(detail: c_int) -> Self {
        match sys::virDomainEventStoppedDetailType::try_from(detail) {
            Ok(sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) => Self::PoweredOff,
            Ok(sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED) => Self::Destroyed,
            Ok(sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED) => Self::Panicked,
            _ => Self::Failed,
        }
    }
}

/// Makes libvirt's root at `dir`, with `capabilities` in its cache where there are any.
pub fn prepare_root(dir: &Path, capabilities: Option<&Path>) -> Result<()> {
    let make = |path: &Path| DirBuilder::new().mode(0o700).recursive(true).create(path).context(path.display());
    make(&dir.join("etc"))?;
    fs::write(dir.join("etc/qemu.conf"), QEMU_CONF).context("qemu.conf")?;
    let Some(source) = capabilities else { return Ok(()) };
    let cache = dir.join(CAPABILITIES);
    make(&cache)?;
    for entry in fs::read_dir(source).context(source.display())?.flatten() {
        fs::copy(entry.path(), cache.join(entry.file_name())).context(entry.path().display())?;
    }
    Ok(())
}

/// Connects to the driver in this process, rooted at `dir`; its event loop gets a thread.
pub fn connect(dir: &Path) -> Result<Connect> {
    // Errors come back as values; libvirt would print them as well.
    libvirt::clear_error_callback();
    event::event_register_default_impl().map_err(told)?;
    thread::spawn(|| while event::event_run_default_impl().is_ok() {});
    Connect::open(Some(&format!("qemu:///embed?root={}", dir.display()))).map_err(told)
}

/// A running domain.
pub struct Vm {
    domain: Domain,
    events: UnixStream,
    // Dropped last: the domain belongs to it.
    _connection: Connect,
}

impl Vm {
    /// Starts the domain that `xml` describes; `dir` is libvirt's root.
    ///
    /// # Errors
    /// libvirt's reason, or QEMU's.
    pub fn start(dir: &Path, xml: &str) -> Result<Self> {
        let connection = connect(dir)?;
        let (events, sender) = UnixStream::pair().context("events")?;
        events.set_nonblocking(true).context("events")?;
        register(&connection, sender)?;
        let domain = connection.create_domain_xml(xml, sys::VIR_DOMAIN_NONE).map_err(told)?;
        Ok(Self { domain, events, _connection: connection })
    }

    /// Readable when [`Vm::ended`] may have news.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// How the VM ended, if it has.
    pub fn ended(&mut self) -> Option<End> {
        let mut detail = [0];
        match self.events.read(&mut detail) {
            Ok(1) => Some(End::from_detail(detail[0].into())),
            _ => None,
        }
    }

    /// Presses the power button once. That the machine is on its way out already is no error.
    pub fn press_power_button(&self) {
        let _ = self.domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
    }

    /// Ends the VM at once.
    pub fn destroy(&self) {
        // Fails only when the VM has ended, of which an event tells.
        let _ = self.domain.destroy();
    }
}

/// Has every "stopped" event of the connection's domains write its detail, one byte, into `sender`.
fn register(connection: &Connect, sender: UnixStream) -> Result<()> {
    let opaque = Box::into_raw(Box::new(sender));
    // SAFETY: libvirt calls an event's callback with the signature that the event's id stands for, and casts it from
    // this generic type; the signature of on_lifecycle is the one documented for lifecycle events.
    let callback = unsafe {
        std::mem::transmute::<LifecycleCallback, unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void)>(
            on_lifecycle,
        )
    };
    // SAFETY: the connection is open; the callback owns `opaque` until free_sender is called for it.
    let id = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connection.as_ptr(),
            std::ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
            Some(callback),
            opaque.cast(),
            Some(free_sender),
        )
    };
    if id < 0 { Err(told(libvirt::Error::last_error())) } else { Ok(()) }
}

type LifecycleCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

unsafe extern "C" fn on_lifecycle(
    _connection: sys::virConnectPtr,
    _domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: `opaque` is the sender that `register` gave, alive until free_sender.
    let mut sender = unsafe { &*opaque.cast::<UnixStream>() };
    if event == sys::VIR_DOMAIN_EVENT_STOPPED as c_int {
        // The reader lives as long as the process; one byte fits.
        let _ = sender.write_all(&[u8::try_from(detail).unwrap_or(u8::MAX)]);
    }
    0
}

unsafe extern "C" fn free_sender(opaque: *mut c_void) {
    // SAFETY: made by Box::into_raw in `register`; libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<UnixStream>()) });
}

fn told(error: libvirt::Error) -> Error {
    Error::new("libvirt", error.message().trim())
}
