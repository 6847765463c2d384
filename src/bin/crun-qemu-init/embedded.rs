//! The embedded libvirt: its root directory, its connection.

use std::fs;
use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use virt::connect::Connect;

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
    let log = root.join("log");
    // Without the directory there is no log.
    let _ = fs::create_dir_all(&log);
    // SAFETY: the caller has started no thread yet, so that nobody reads the environment meanwhile.
    unsafe { std::env::set_var("LIBVIRT_LOG_OUTPUTS", format!("3:file:{}/libvirt.log", log.display())) };
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
