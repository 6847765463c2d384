//! End to end: real podman, crun, libvirt and QEMU, real guests, as a user runs them.
//!
//! They need root, what `make install` installs, and on some hosts `util/host-quirks.sh`: `make test` sees to all.

mod bad_input;
mod bad_roots;
mod bench;
mod boot;
mod console;
mod consoles;
mod crun_versions;
mod data;
mod domain_xml;
mod examples;
mod exec;
mod faults;
mod firmware;
mod first_boot;
mod forged_engine;
mod harness;
mod host;
mod host_view;
mod hostile;
mod images;
mod ipv6;
mod leaks;
mod libvirt_user;
mod lifecycle;
mod network;
mod ordinary;
mod pass_through;
mod pci;
mod persistent;
mod podman_options;
mod policy;
mod ports;
mod privileges;
mod refused;
mod replaced;
mod sector;
mod shared_network;
mod shares;
mod sizes;
mod start;
mod stops;
mod storage_full;
mod utilities;
mod volumes;
