//! VM disk images run as containers.
//!
//! This library is the creating side: it runs in crun's process (through the plugin) or in the runtime executable, and
//! never links libvirt. The container's own process is the package `crun-qemu-init`, which uses a few modules of this one.
//! The modules in the order in which data flows through them:
//!
//! 1. **Read.** [`engine`] knows the engines, [`request`] reads the OCI configuration, [`host`] the host, the policy, the
//!    image and the user's files.
//! 2. **Decide.** [`plan`] decides everything about the VM; [`domain`], [`first_boot`] and [`edits`] turn the plan into
//!    libvirt's XML, the guest's first-boot documents and the changes to the configuration. All pure.
//! 3. **Do.** [`prepare`] makes the files and hands over to the supervisor by [`handoff`]; [`network`] sets up the guest's
//!    network inside the container's namespace; [`update`] changes a running VM.
//! 4. **The boundary to crun.** [`crun`] proves and edits crun's structs, [`ffi`] exports the C ABI.
//! 5. **For all.** [`error`].

pub mod engine;
pub mod host;
pub mod request;

pub mod plan;

pub mod domain;
pub mod edits;
pub mod first_boot;

pub mod handoff;
pub mod network;
pub mod prepare;
pub mod update;

pub mod crun;
pub mod ffi;

pub mod error;
