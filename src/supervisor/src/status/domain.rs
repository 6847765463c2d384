//! What the domain's XML says of the VM.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{Disk, State, Status};
use crun_qemu::error::{Context, Result};
use crun_qemu::handoff::timings::StartTimings;

/// What the domain's XML says; not all that libvirt would take, but all that is in ours.
pub(super) fn parse(domain: &str) -> Result<Status> {
    let mut status = Status {
        name: String::new(),
        state: State::Starting,
        reason: None,
        uptime: None,
        stages: StartTimings::default(),
        accelerator: String::new(),
        vcpus: 0,
        memory: 0,
        memory_wanted: None,
        disks: Vec::new(),
        shares: Vec::new(),
        virtiofsd: None,
        guest_addresses: Vec::new(),
        container_addresses: Vec::new(),
    };
    let mut reader = Reader::from_str(domain);
    let mut path: Vec<String> = Vec::new();
    let mut unit = 1;
    loop {
        let event = reader.read_event().context("domain")?;
        match &event {
            Event::Start(element) | Event::Empty(element) => {
                path.push(element.name().as_ref().to_owned());
                match path.join("/").as_str() {
                    "domain" => status.accelerator = accelerator(&attribute(element, "type")),
                    "domain/memory" => unit = bytes_of(&attribute(element, "unit")),
                    "domain/devices/disk" => status.disks.push(Disk::default()),
                    place => {
                        if let (Some(part), Some(disk)) =
                            (place.strip_prefix("domain/devices/disk/"), status.disks.last_mut())
                        {
                            part_of_disk(disk, part, element);
                        }
                    }
                }
                if matches!(event, Event::Empty(_)) {
                    path.pop();
                }
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                match path.join("/").as_str() {
                    "domain/name" => status.name.push_str(&text),
                    "domain/vcpu" => status.vcpus = text.trim().parse().unwrap_or(0),
                    "domain/memory" => status.memory = text.trim().parse::<u64>().unwrap_or(0).saturating_mul(unit),
                    _ => {}
                }
            }
            Event::End(_) => drop(path.pop()),
            Event::Eof => return Ok(status),
            _ => {}
        }
    }
}

/// `part` is the element's path below the disk: a backing file has a source too.
fn part_of_disk(disk: &mut Disk, part: &str, element: &BytesStart) {
    match part {
        "driver" => disk.format = attribute(element, "type"),
        "source" => {
            let names = ["file", "dev"].map(|name| attribute(element, name));
            disk.source = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        }
        "target" => disk.name = attribute(element, "dev"),
        "readonly" => disk.read_only = true,
        _ => {}
    }
}

fn attribute(element: &BytesStart, name: &str) -> String {
    let attribute = element.try_get_attribute(name).ok().flatten();
    attribute
        .and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).ok())
        .map(|value| value.into_owned())
        .unwrap_or_default()
}

fn accelerator(kind: &str) -> String {
    if kind == "qemu" { "tcg".into() } else { kind.into() }
}

/// libvirt's units; without one it means KiB.
fn bytes_of(unit: &str) -> u64 {
    match unit {
        "b" | "bytes" => 1,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => 1 << 10,
    }
}
