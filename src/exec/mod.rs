//! `podman exec`: ssh into the guest, or a command in the container around it.
