//! End to end: real podman, crun, libvirt and QEMU, real guests, as a user runs them.
//!
//! They need root, what `make install` installs, and on some hosts `util/host-quirks.sh`: `make test` sees to all.

mod boot;
mod console;
mod harness;
mod network;
mod shared_network;
