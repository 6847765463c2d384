//! VM disk images run as containers.
//!
//! The modules in the order in which data flows through them: an OCI configuration becomes a request, the request a
//! plan, the plan files on disk, a libvirt domain and a list of edits to the configuration.

pub mod error;
pub mod paths;

pub mod idmap;

pub mod request;

pub mod host;

pub mod cgroup;

pub mod pci;

pub mod sources;

pub mod rootfs;

pub mod image;

pub mod plan;

pub mod domain;

pub mod first_boot;

pub mod policy;

pub mod user_files;

pub mod stages;

pub mod launch;

pub mod network;

pub mod limits;

pub mod edits;

pub mod config_json;

pub mod prepare;

pub mod crun;

pub mod ffi;

pub mod exec;

pub mod status;
