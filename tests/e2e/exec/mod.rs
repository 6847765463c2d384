//! `podman exec`.

mod commands;
mod killed;
mod reasons;
mod rootless;
mod workdir;
