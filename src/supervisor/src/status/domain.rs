//! The part of the status that comes from the domain's XML.

use crun_qemu::domain::tree::Element;
use crun_qemu::error::{Error, Result};
use crun_qemu::handoff::timings::StartTimings;

use super::{Disk, State, Status};

/// Reads the part of a domain that our own documents contain, not everything that libvirt would accept.
///
/// # Errors
/// The text is not XML.
pub(super) fn parse(domain: &str) -> Result<Status> {
    let domain = Element::parse(domain).map_err(|why| Error::new("domain", why))?;
    let text = |name: &str| domain.child(name).map(|element| element.text.trim()).unwrap_or_default();
    let memory = domain.child("memory");
    let unit = bytes_of(memory.and_then(|memory| memory.attribute("unit")).unwrap_or_default());
    Ok(Status {
        name: domain.child("name").map(|name| name.text.clone()).unwrap_or_default(),
        state: State::Starting,
        reason: None,
        uptime: None,
        stages: StartTimings::default(),
        accelerator: accelerator(domain.attribute("type").unwrap_or_default()),
        vcpus: text("vcpu").parse().unwrap_or(0),
        memory: text("memory").parse::<u64>().unwrap_or(0).saturating_mul(unit),
        memory_wanted: None,
        disks: domain.child("devices").into_iter().flat_map(|d| d.children_named("disk")).map(disk).collect(),
        shares: Vec::new(),
        virtiofsd: None,
        guest_addresses: Vec::new(),
        container_addresses: Vec::new(),
    })
}

fn disk(disk: &Element) -> Disk {
    let attribute = |child: &str, name: &str| disk.child(child)?.attribute(name).filter(|value| !value.is_empty());
    let owned = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Disk {
        name: owned(attribute("target", "dev")),
        format: owned(attribute("driver", "type")),
        source: owned(attribute("source", "file").or_else(|| attribute("source", "dev"))),
        read_only: disk.child("readonly").is_some(),
        ..Disk::default()
    }
}

fn accelerator(kind: &str) -> String {
    if kind == "qemu" { "tcg".into() } else { kind.into() }
}

/// Bytes in one of libvirt's units; KiB without a unit.
fn bytes_of(unit: &str) -> u64 {
    match unit {
        "b" | "bytes" => 1,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => 1 << 10,
    }
}
