//! Configuration of the guest's first boot.

mod bad_options;
mod documents;

pub use documents::has_password;
