//! What hostile bytes are given to, and what must hold whatever they are. A target returns, or it panics: that is a
//! finding. `tests/fuzz_corpus.rs` runs the same functions over the corpus.

mod boot;
mod dhcp;
mod dhcp6;
mod domain;
mod exec;
mod ignition;
mod merge_xml;
mod meta_data;
mod mux;
mod options;
mod overlay;
mod qcow2;
pub mod relaxng;
mod scratch;
mod status;
mod text_files;
mod user_data;
pub mod vm;

use crun_qemu::error::Result;
pub use qcow2::image_of;

/// Takes any bytes; panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const ALL: &[(&str, Target)] = &[
    ("boot", boot::run),
    ("dhcp", dhcp::run),
    ("dhcp6", dhcp6::run),
    ("domain", domain::run),
    ("exec", exec::run),
    ("ignition", ignition::run),
    ("merge_xml", merge_xml::run),
    ("meta_data", meta_data::run),
    ("mux", mux::run),
    ("options", options::run),
    ("overlay", overlay::run),
    ("qcow2", qcow2::run),
    ("status", status::run),
    ("text_files", text_files::run),
    ("user_data", user_data::run),
];

/// The target of this name.
pub fn named(name: &str) -> Option<Target> {
    ALL.iter().find(|(other, _)| *other == name).map(|(_, run)| *run)
}

/// Every refusal is one line without control characters.
fn told<T>(result: Result<T>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error.to_string(),
    };
    assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
    None
}

/// Settings in front of an input: its first byte, whose digits people can type.
fn knob(data: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((usize::from(first), rest))
}
