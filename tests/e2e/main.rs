//! End-to-end tests with real podman, crun, libvirt and QEMU and real guests, used as a user uses them.
//!
//! They need root, the files that `make install` installs, and on some hosts `util/host-quirks.sh`; `make test`
//! provides all of it.

mod boot;
mod exec;
mod first_boot;
mod harness;
mod network;
mod podman;
mod security;
mod storage;
mod tooling;
