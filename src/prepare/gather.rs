//! Everything that is read before anything is made.

use std::path::{Path, PathBuf};

use super::disk::{self, Chosen};
use super::first_boot::FirstBootInput;
use super::private_dir::PrivateDir;
use super::{PRIVATE_DIR, network, storage};
use crate::domain::Overrides;
use crate::error::{Error, Result};
use crate::host::image;
use crate::host::mount_sources::Sources;
use crate::host::pci;
use crate::host::policy::Policy;
use crate::host::rootfs::Root;
use crate::host::user_files::UserFiles;
use crate::host::{Container, Host, Identity};
use crate::plan::ImageFacts;
use crate::request::options::{FirmwareChoice, Options};
use crate::request::{Bundle, Request};

/// Input of planning and making.
pub struct Gathered {
    pub request: Request,
    pub host: Host,
    /// The container's root, on the host.
    pub rootfs: PathBuf,
    pub root: Root,
    /// The image, as it was chosen.
    pub chosen: Chosen,
    pub image_facts: ImageFacts,
    /// Sources of the mounts and devices.
    pub sources: Sources,
    /// Content of the first-boot options.
    pub first_boot: FirstBootInput,
    /// The document of `--merge-libvirt-xml`.
    pub overrides: Option<Overrides>,
    /// The private directory in the bundle.
    pub private: PrivateDir,
    /// The one in the container's layer; without it everything is in the bundle.
    pub layer: Option<PrivateDir>,
}

impl Gathered {
    /// The directory for the disk that takes the guest's writes.
    pub fn storage(&self) -> &PrivateDir {
        self.layer.as_ref().unwrap_or(&self.private)
    }
}

/// Reads the request, the host, the image and the user's files.
///
/// # Errors
/// What cannot be read or used, and what the policy forbids.
pub fn gather(bundle: &Bundle, id: &str, init: &Path) -> Result<Gathered> {
    let mut request = Request::parse(&bundle.config)?;
    network::detect_host_netns(&mut request);
    let container = container(&request);
    let host = Host::detect(init, &container, pci::find(&request.options)?)?;
    let rootfs = bundle.path.join(&request.root);
    let files = UserFiles::new(&request, &bundle.path, &rootfs);
    let first_boot = FirstBootInput::read(&request.options, &files)?;
    let overrides = overrides(&request.options, &files)?;
    let root = Root::open(&rootfs)?;
    let find = |path| Ok(PrivateDir::find(path, request.mapped_root)?.labelled(request.label.as_deref()));
    let private = find(bundle.path.join(PRIVATE_DIR))?;
    let layer = storage::layer(&bundle.path, &rootfs, &request)?.map(find).transpose()?;

    let root_is_ephemeral = request.engine.is_ephemeral(&bundle.path, &rootfs);
    let storage = layer.as_ref().unwrap_or(&private);
    let chosen = disk::choose(id, &root, storage, request.options.format, root_is_ephemeral)?;
    let look = request.options.firmware == FirmwareChoice::Auto;
    let image_facts = ImageFacts {
        format: chosen.disk.format,
        virtual_size: chosen.disk.virtual_size,
        root_is_ephemeral,
        bios_bootable: look && image::bios_bootable(&chosen.record.image, &chosen.file, &chosen.disk)?,
    };
    let sources = Sources::look(&request);
    Ok(Gathered { request, host, rootfs, root, chosen, image_facts, sources, first_boot, overrides, private, layer })
}

/// The properties of the container that decide what it may use of the host.
fn container(request: &Request) -> Container {
    let identity = Identity { mapped_root: request.mapped_root, keeps_groups: request.keeps_groups };
    let (labelled, emulated) = (request.label.is_some(), request.options.emulated);
    Container { identity, labelled, emulated, cgroup: request.cgroup.clone() }
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
