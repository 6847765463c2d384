//! The guest's network.

mod ipv6;
mod own;
mod ports;
mod shared;
