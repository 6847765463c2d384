//! podman's own commands and options, for VMs and for containers beside them.

mod killed_at_shutdown;
mod lifecycle;
mod options;
mod ordinary;
mod resources;
mod stop;

pub use resources::memory_update_changes_the_guests_memory;
