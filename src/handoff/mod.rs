//! What the creating side hands to the supervisor: its configuration, the paths in the container, the start's timings.
//!
//! The host side writes these, in crun's process or the runtime executable; the supervisor reads them in the container.
//! Nothing that a container could have changed is read back.

pub mod paths;
pub mod supervisor_config;
pub mod timings;
