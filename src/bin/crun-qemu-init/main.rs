//! The supervisor: the container's process.
fn main() {}
