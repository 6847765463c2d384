//! VM disk images run as containers.
//!
//! The modules in the order in which data flows through them: an OCI configuration becomes a request, the request a
//! plan, the plan files on disk, a libvirt domain and a list of edits to the configuration.

pub mod error;
pub mod handoff;

pub mod engine;

pub mod host;

pub mod request;

pub mod plan;

pub mod domain;

pub mod first_boot;

pub mod edits;

pub mod network;

pub mod prepare;

pub mod update;

pub mod crun;

pub mod ffi;
