//! The embedded libvirt: its root directory, its connection.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crun_qemu::error::{Context, Error, Result, message};
use crun_qemu::handoff::supervisor_config::{Ids, OpenFile, SupervisorConfig};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

/// Configuration of libvirt's QEMU driver in a container, without [`qemu_conf`]'s part: no labels, cgroups, namespaces
/// or log daemon. The filter speeds up the start: libvirt would query each of about 160 CPU properties one by one
/// before the guest runs; without that capability it makes one query, and the guest is the same.
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

/// Makes libvirt's root directory, with the cached capabilities of the host's QEMU, so that libvirt need not probe
/// again.
pub fn prepare(root: &Path, capabilities: Option<&Path>, config: &SupervisorConfig) -> Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc).context(etc.display())?;
    let conf = etc.join("qemu.conf");
    fs::write(&conf, qemu_conf(config.user, config.low_port)).context(conf.display())?;
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
    // Without the directory there is no log, and everything else works.
    let _ = fs::create_dir_all(&log);
    // SAFETY: the caller has started no thread yet, so that nobody reads the environment meanwhile.
    unsafe { std::env::set_var("LIBVIRT_LOG_OUTPUTS", format!("3:file:{}/libvirt.log", log.display())) };
    // SAFETY: as above; one arena less costs a thread of libvirt's some waiting and saves its own heap.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    virt::error::clear_error_callback();
}

/// Opens the driver below `root`. The event loop's default implementation is registered first, as libvirt requires.
pub fn connect(root: &Path) -> Result<Connect> {
    virt::event::event_register_default_impl().map_err(error)?;
    Connect::open(Some(&format!("qemu:///embed?root={}", root.display()))).map_err(error)
}

/// Makes libvirt load QEMU's capabilities, from the cache or by probing QEMU.
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

/// Makes sure that libvirt can copy the descriptors of `files` for QEMU: when it cannot, it does not say why.
///
/// # Errors
/// This process may not have that many descriptors.
pub fn can_copy(files: &[OpenFile]) -> Result<()> {
    let copies: std::io::Result<Vec<_>> = files.iter().map(|_| File::open("/dev/null")).collect();
    copies
        .map(drop)
        .map_err(|e| Error::new("the VM's disks", message(&e)).hint("raise the container's --ulimit nofile"))
}

/// libvirt's error as ours.
pub fn error(e: virt::error::Error) -> Error {
    Error::new("libvirt", crate::qemu_log::one_line(e.message()))
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
}
