//! VM disk images run as containers.
//!
//! This library is the creating side: it runs in crun's process (through the plugin) or in the runtime executable, and
//! never links libvirt. The container's own process is the package `crun-qemu-init`, which uses a few modules of this
//! one.
//!
//! Data flows through the modules in one direction: an OCI configuration becomes a [`request`], the request and the
//! facts about the [`host`] a [`plan`], the plan a libvirt [`domain`], files on disk and a list of [`edits`], which the
//! boundary writes into the configuration.

pub mod error;
pub mod linux;

// The boundary: calls from crun, whose structs are verified and edited.
pub mod crun;
pub(crate) mod ffi;
pub mod update;

// Read: the configuration, what is known about the engine that wrote it, and the host.
pub mod engine;
pub mod host;
pub mod request;

// Decide: pure functions from the request and the facts.
pub mod domain;
pub mod edits;
pub mod first_boot;
pub mod plan;

// Do: files on disk, undone on failure, and the handoff to the supervisor.
pub mod handoff;
pub mod prepare;

// In the container's network namespace: the guest's network.
pub mod network;
