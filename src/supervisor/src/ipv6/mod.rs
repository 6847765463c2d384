//! Announcement of the guest's IPv6 address: router advertisements and DHCPv6.

pub mod message;
mod service;

pub use service::Service;
