//! Makes the files that the plan needs. Until the end, a failure removes them again.

use std::path::PathBuf;

use super::first_boot;
use super::gather::Gathered;
use super::private_dir::PrivateDir;
use super::workdir::Workdir;
use super::{blockdevs, memory, network, nvram, qemu_caps_cache, skeleton, user_network};
use crate::domain;
use crate::edits::{Artifacts, BootFiles, Edits};
use crate::error::{Context, Error, Result};
use crate::handoff::paths;
use crate::handoff::supervisor_config::{Judged, SupervisorConfig, Virtiofs};
use crate::handoff::timings::StartTimings;
use crate::host::{self, Identity};
use crate::network::Ports;
use crate::plan::attachments::{Attachments, Share, SharedFile};
use crate::plan::{BootSource, Network, Plan};
use crate::request::{Bundle, Request};

/// Makes everything for the container `id` and returns the edits to its configuration.
///
/// # Errors
/// What cannot be made, and disks that another VM uses.
pub fn make(bundle: &Bundle, id: &str, mut gathered: Gathered, mut plan: Plan, timings: StartTimings) -> Result<Edits> {
    user_network::check(&plan)?;
    let virtiofsd = plan.attachments.has_virtiofs().then(|| host::VIRTIOFSD.find()).transpose()?.map(PathBuf::from);
    let mut judged = blockdevs::check(&plan.attachments, &gathered.request, gathered.storage().is_new())?;

    gathered.private.make()?;
    check_entry(bundle, &gathered)?;
    gathered.layer.as_mut().map_or(Ok(()), PrivateDir::make)?;
    let boot = boot_files(id, &gathered, plan.boot, &mut judged)?;
    let Gathered { request, host, private, layer, first_boot: input, overrides, .. } = gathered;
    let nvram = nvram::ensure(&private, &mut plan.firmware)?;
    nvram.iter().try_for_each(|path| private.let_in(path, plan.user.as_ref(), true))?;
    let workdir = Workdir::find(&request.cwd)?;
    skeleton::make(&private, &input.users, &workdir, plan.user.as_ref())?;
    skeleton::places(&private, &plan.attachments)?;
    let fd_store = network::write(&private, &plan, &request)?;
    memory::record(&private, &plan, &bundle.config)?;
    let oem_strings = first_boot::write(&private, &plan, input, &network::engines_file(&request, "/etc/hosts"))?;
    let mut domain = domain::domain(&plan, &oem_strings);
    if let Some(overrides) = overrides {
        overrides.merge_into(&mut domain);
    }
    write_supervisor_config(&private, domain.document(), &plan, &request, judged, timings)?;
    let artifacts = Artifacts {
        root: private.join(skeleton::ROOT),
        workdir: workdir.mount(&private.join(skeleton::ROOT)),
        init: host.init.clone(),
        boot,
        nvram,
        fd_store,
        virtiofsd,
        capabilities: qemu_caps_cache::for_container(&host, plan.accelerator, &private, request.label.is_some()),
    };
    layer.into_iter().chain([private]).for_each(PrivateDir::commit);
    Ok(Edits::new(&plan, &artifacts))
}

/// Refuses a bundle in whose directories the container's user namespace has no rights, where crun would fail.
fn check_entry(bundle: &Bundle, gathered: &Gathered) -> Result<()> {
    let identity = Identity { mapped_root: gathered.request.mapped_root, ..Identity::default() };
    if identity.mapped_root.is_none() || identity.permits([&gathered.private.join("")]) == [true] {
        return Ok(());
    }
    let why = "root of the container's user namespace may not enter this directory";
    Err(Error::new(bundle.path.display().to_string(), why)
        .hint("podman permits it for a container image, but not with --rootfs"))
}

/// Makes what the guest boots from; the files that were judged are added to `judged`.
fn boot_files(id: &str, gathered: &Gathered, boot: BootSource, judged: &mut Vec<Judged>) -> Result<BootFiles> {
    let BootSource::Disk(disk) = boot;
    let (chosen, storage) = (&gathered.chosen, gathered.storage());
    let (overlay, own) = chosen.make(id, &gathered.root, storage, disk, gathered.image_facts)?;
    judged.extend(own);
    let image = &chosen.record.image;
    Ok(BootFiles::Disk { image: gathered.rootfs.join(image.strip_prefix("/").unwrap_or(image)), overlay })
}

fn write_supervisor_config(
    dir: &PrivateDir,
    domain: String,
    plan: &Plan,
    request: &Request,
    judged: Vec<Judged>,
    mut timings: StartTimings,
) -> Result<()> {
    StartTimings::stamp(&mut timings.created);
    let (tap, shared, ssh) = match &plan.network {
        Network::Tap { name, ports, .. } => (Some(name.clone()), *ports != Ports::All, None),
        Network::User { ssh, .. } => (None, false, Some(*ssh)),
    };
    let (warnings, env, cwd) = (plan.warnings.clone(), request.env.clone(), request.cwd.clone());
    let (print, virtiofs, exec_timeout) =
        (request.options.print_libvirt_xml, virtiofs(&plan.attachments), request.options.timeout);
    let stop_signal = request.stop_signal;
    let (user, low_port, files) = (plan.user.as_ref().map(|user| user.ids), plan.low_port, domain::files(plan));
    let config = SupervisorConfig {
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
        stages: timings,
    };
    let name = format!("{}{}", skeleton::ROOT, paths::SUPERVISOR_CONFIG);
    dir.write(&name, 0o600, &serde_json::to_vec(&config).context("supervisor.json")?)?;
    Ok(())
}

/// The directories that virtiofsd serves.
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
