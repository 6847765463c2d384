//! How the guest learns of its IPv6 address: router advertisements and DHCPv6.

pub mod message;
mod service;

pub use service::Service;
