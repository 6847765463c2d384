//! bindgen's output for `include/crun.h`.
#![allow(non_camel_case_types, dead_code, clippy::all, clippy::undocumented_unsafe_blocks)]
include!(concat!(env!("OUT_DIR"), "/crun.rs"));
