//! The OCI runtime executable.
fn main() {}
