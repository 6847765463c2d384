//! End to end: real podman, crun, libvirt and QEMU, real guests, as a user runs them.
//!
//! They need root, what `make install` installs, and on some hosts `util/host-quirks.sh`: `make test` sees to all.

mod bad_input;
mod bad_roots;
mod boot;
mod console;
mod crun_versions;
mod firmware;
mod harness;
mod images;
mod ordinary;
mod utilities;
