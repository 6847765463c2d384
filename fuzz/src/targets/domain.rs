//! A configuration to a domain of libvirt's and to an edited configuration.
//!
//! A digit or another byte for the host and the image, then the configuration's JSON.

use std::path::Path;

use crun_qemu::edits::json as edits_json;
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use crun_qemu::plan::Plan;
use oci_spec::runtime::Spec;
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use serde_json::Value;
use supervisor::status::Status;

use super::{knob, relaxng, vm};

pub fn run(data: &[u8]) {
    let Some((knob, data)) = knob(data) else { return };
    let Ok(config) = std::str::from_utf8(data) else { return };
    let Some((request, plan)) = vm::plan_of(knob, config) else { return };
    let xml = vm::domain_of(&plan);
    relaxng::validate(&xml).unwrap_or_else(|why| panic!("{why}: {xml}"));
    read_back(&plan, &xml);
    edited(&plan, config, request.mounts.len());
}

/// What is read from the domain is what was planned.
fn read_back(plan: &Plan, xml: &str) {
    let launch = SupervisorConfig { domain: xml.to_owned(), ..SupervisorConfig::default() };
    let status = Status::new(&launch, Path::new("/nonexistent")).expect("XML");
    assert_eq!((&status.name, status.vcpus, status.memory), (&plan.name, plan.vcpus.into(), plan.memory));
    let disks: Vec<_> = status.disks.iter().skip(2).map(|disk| (disk.source.clone(), disk.read_only)).collect();
    assert_eq!(disks, plan.attachments.disks.iter().map(|disk| (disk.path(), disk.read_only)).collect::<Vec<_>>());
    let mut tags: Vec<_> = plan.attachments.shares.iter().map(|share| share.tag()).collect();
    tags.extend((!plan.attachments.files.is_empty()).then(|| "crun-qemu-files".to_owned()));
    assert_eq!(attributes(xml, "target", "dir"), tags);
}

/// Values as a reader of XML has them, with line breaks that are not written as references gone.
fn attributes(xml: &str, element: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut values = Vec::new();
    loop {
        match reader.read_event().expect("XML") {
            Event::Empty(found) if found.name().as_ref() == element => {
                let value = found.try_get_attribute(name).expect("attributes");
                values.extend(value.map(|v| v.normalized_value(XmlVersion::Implicit1_0).expect("value").into_owned()));
            }
            Event::Eof => return values,
            _ => {}
        }
    }
}

/// The edited configuration is one, and nothing of the image's acts in it.
fn edited(plan: &Plan, config: &str, mounts: usize) {
    let edits = vm::edits_of(plan);
    let mut json: Value = serde_json::from_str(config).expect("it was read before");
    if edits_json::apply(&mut json, &edits, Path::new(vm::HOOK)).is_err() {
        return;
    }
    let spec: Spec = serde_json::from_value(json).expect("still a configuration");
    let (root, process) = (spec.root().as_ref().expect("root"), spec.process().as_ref().expect("process"));
    assert_eq!((root.path().as_path(), root.readonly()), (edits.root.as_path(), Some(true)));
    assert_eq!(process.args().as_deref(), Some(&[paths::INIT.to_owned()][..]));
    assert_eq!(process.env().iter().flatten().collect::<Vec<_>>(), paths::ENVIRONMENT.iter().collect::<Vec<_>>());
    assert_eq!((process.cwd().as_path(), process.user().uid(), process.user().gid()), (Path::new("/"), 0, 0));
    // Whatever is the image's or the user's is where it can do no harm, and nowhere twice.
    let kept = plan.attachments.kept.iter().all(|index| *index < mounts);
    assert!(kept && spec.mounts().iter().flatten().count() >= edits.mounts.len());
}
