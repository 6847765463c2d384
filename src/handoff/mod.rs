//! What the creating side hands to the supervisor: its configuration, the paths in the container, the start's timings.
//! The host writes these; nothing that a container could have changed is read back.

pub mod paths;
pub mod supervisor_config;
pub mod timings;
