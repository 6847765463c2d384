//! The steps with effects on the host's side: from the bundle to files on disk and edits.

mod blockdevs;
mod disk;
mod first_boot;
mod label;
mod memory;
mod network;
mod nvram;
mod private_dir;
pub mod qemu_caps_cache;
pub mod skeleton;
mod storage;
mod user_network;
mod workdir;

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::{self, Overrides};
use crate::edits::{Artifacts, Edits};
use crate::error::{Context, Error, Result};
use crate::handoff::paths;
use crate::handoff::supervisor_config::{Judged, SupervisorConfig, Virtiofs};
use crate::handoff::timings::StartTimings;
use crate::host::cgroup;
use crate::host::image;
use crate::host::mount_sources::Sources;
use crate::host::pci;
use crate::host::policy::Policy;
use crate::host::rootfs::Root;
use crate::host::user_files::UserFiles;
use crate::host::{self, Container, Host, Identity};
use crate::network::Ports;
use crate::plan::attachments::{Attachments, Share, SharedFile};
use crate::plan::{ImageFacts, Network, Plan, plan};
use crate::request::Request;
use crate::request::options::{FirmwareChoice, Options};
use first_boot::Wishes;
pub use memory::{MemoryRecord, ask_of_guest, memory};
pub use network::{failure as network_failure, network, network_or_note};
use private_dir::PrivateDir;
use workdir::Workdir;

/// Name of the private directory in the bundle.
const PRIVATE_DIR: &str = "crun-qemu";

/// Prepares the container's VM: makes everything of ours in `bundle` and says what to change in its configuration.
/// `init` is the supervisor's executable.
///
/// # Errors
/// Whatever can be known before the VM starts. A failure leaves behind nothing that was not there before.
pub fn create(bundle: &Path, id: &str, init: &Path) -> Result<Edits> {
    let mut stages = StartTimings::default();
    StartTimings::stamp(&mut stages.create);
    let path = bundle.join("config.json");
    let config = fs::read_to_string(&path).context(path.display())?;
    let mut request = Request::parse(&config)?;
    network::know_the_hosts(&mut request);
    let container = container(&request);
    let memory_above = cgroup::memory_above(request.cgroup.as_deref());
    let host = Host { pci: pci::find(&request.options)?, memory_above, ..Host::detect(init, &container)? };
    host.check_pci(&container)?;
    let rootfs = bundle.join(&request.root);
    let files = UserFiles::new(&request, bundle, &rootfs);
    let (wishes, overrides) = (Wishes::read(&request.options, &files)?, overrides(&request.options, &files)?);
    let root = Root::open(&rootfs)?;
    let open = |path| PrivateDir::open(path, request.mapped_root)?.labelled(request.label.as_deref());
    let private = open(bundle.join(PRIVATE_DIR))?;
    if request.mapped_root.is_some() && container.identity.permits([&private.join("")]) == [false] {
        let why = "the root user of the container's user namespace may not enter the directory";
        return Err(Error::new(bundle.display().to_string(), why)
            .hint("podman permits it for a container image, but not with --rootfs"));
    }
    let layer = storage::layer(bundle, &rootfs, &request)?.map(open).transpose()?;
    let storage = layer.as_ref().unwrap_or(&private);

    let root_is_ephemeral = request.engine.is_ephemeral(bundle, &rootfs);
    let chosen = disk::choose(id, &root, storage, request.options.format, root_is_ephemeral)?;
    let image = &chosen.record.image;
    let look = request.options.firmware == FirmwareChoice::Auto;
    let facts = ImageFacts {
        format: chosen.disk.format,
        virtual_size: chosen.disk.virtual_size,
        root_is_ephemeral,
        bios_bootable: look && image::bios_bootable(image, &chosen.file, &chosen.disk)?,
    };
    let mut plan = plan(id, &request, &host, facts, &Sources::look(&request))?;
    user_network::check(&plan)?;
    let virtiofsd = plan.attachments.has_virtiofs().then(|| host::VIRTIOFSD.find()).transpose()?.map(PathBuf::from);
    let mut judged = blockdevs::check(&plan.attachments, &request, storage.is_fresh())?;

    let (overlay, own) = chosen.keep(id, &root, storage, plan.disk, facts)?;
    judged.extend(own);
    let nvram = nvram::keep(&private, &mut plan.firmware)?;
    nvram.iter().try_for_each(|path| private.let_in(path, plan.user.as_ref(), true))?;
    let workdir = Workdir::find(&request.cwd)?;
    skeleton::make(&private, &wishes.users, &workdir, plan.user.as_ref())?;
    skeleton::places(&private, &plan.attachments)?;
    let fd_store = network::write(&private, &plan, &request)?;
    memory::keep(&private, &plan, &config)?;
    let oem_strings = first_boot::write(&private, &plan, wishes, &network::engines_file(&request, "/etc/hosts"))?;
    let mut domain = domain::domain(&plan, &oem_strings);
    if let Some(overrides) = overrides {
        overrides.merge_into(&mut domain);
    }
    write_launch(&private, domain.document(), &plan, &request, judged, stages)?;
    let artifacts = Artifacts {
        root: private.join(skeleton::ROOT),
        workdir: workdir.mount(&private.join(skeleton::ROOT)),
        init: host.init.clone(),
        image: rootfs.join(image.strip_prefix("/").unwrap_or(image)),
        overlay,
        nvram,
        fd_store,
        virtiofsd,
        capabilities: qemu_caps_cache::for_container(&host, plan.accelerator, &private, container.labelled),
    };
    layer.into_iter().chain([private]).for_each(PrivateDir::keep);
    Ok(Edits::new(&plan, &artifacts))
}

/// What bears on what the container can have of the host.
fn container(request: &Request) -> Container {
    let identity = Identity { mapped_root: request.mapped_root, keeps_groups: request.keeps_groups };
    Container { identity, labelled: request.label.is_some(), emulated: request.options.emulated }
}

/// The supervisor where `make install` puts it.
pub fn installed_init() -> PathBuf {
    Path::new(option_env!("CRUN_QEMU_LIBEXEC").unwrap_or("/usr/local/libexec/crun-qemu")).join("crun-qemu-init")
}

/// Writes the edited configuration beside everything else of ours in `bundle`; the engine's own stays as it is.
pub fn write_config(bundle: &Path, config: &[u8]) -> Result<PathBuf> {
    PrivateDir::open(bundle.join(PRIVATE_DIR), None)?.write("config.json", 0o600, config)
}

/// `--merge-libvirt-xml`.
fn overrides(options: &Options, files: &UserFiles) -> Result<Option<Overrides>> {
    const OPTION: &str = "--merge-libvirt-xml";
    let Some(path) = &options.merge_libvirt_xml else { return Ok(None) };
    Policy::read()?.allow_host_path(OPTION)?;
    let bytes = files.file(&OPTION[2..], path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_string());
    let overrides = text.and_then(Overrides::parse);
    overrides
        .map(Some)
        .map_err(|why| Error::new(format!("{OPTION} {}", path.display()), format!("not a libvirt domain: {why}")))
}

fn write_launch(
    dir: &PrivateDir,
    domain: String,
    plan: &Plan,
    request: &Request,
    judged: Vec<Judged>,
    mut stages: StartTimings,
) -> Result<()> {
    StartTimings::stamp(&mut stages.created);
    let (tap, shared, ssh) = match &plan.network {
        Network::Tap { name, ports, .. } => (Some(name.clone()), *ports != Ports::All, None),
        Network::User { ssh, .. } => (None, false, Some(*ssh)),
    };
    let (warnings, env, cwd) = (plan.warnings.clone(), request.env.clone(), request.cwd.clone());
    let (print, virtiofs, exec_timeout) =
        (request.options.print_libvirt_xml, virtiofs(&plan.attachments), request.options.timeout);
    let stop_signal = request.stop_signal;
    let (user, low_port, files) = (plan.user.as_ref().map(|user| user.ids), plan.low_port, domain::files(plan));
    let launch = SupervisorConfig {
        domain,
        print,
        warnings,
        tap,
        shared,
        ssh,
        virtiofs,
        env,
        cwd,
        exec_timeout,
        stop_signal,
        judged,
        user,
        low_port,
        files,
        stages,
    };
    let name = format!("{}{}", skeleton::ROOT, paths::SUPERVISOR_CONFIG);
    dir.write(&name, 0o600, &serde_json::to_vec(&launch).context("supervisor.json")?)?;
    Ok(())
}

/// What has to be served.
fn virtiofs(attachments: &Attachments) -> Vec<Virtiofs> {
    let share = |s: &Share| Virtiofs {
        dir: s.path().into(),
        socket: s.socket().into(),
        target: s.target.clone(),
        read_only: s.read_only,
    };
    let files = (!attachments.files.is_empty()).then(|| Virtiofs {
        dir: SharedFile::DIR.into(),
        socket: SharedFile::socket().into(),
        target: format!("({} single files)", attachments.files.len()),
        read_only: attachments.files.iter().all(|file| file.read_only),
    });
    attachments.shares.iter().map(share).chain(files).collect()
}
