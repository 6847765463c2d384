//! Drives real podman. Everything that a test creates carries [`LABEL`] and is removed when the test ends, whether it
//! passed or failed.

mod bad_roots;
mod cgroup;
mod console;
mod host;
mod image;
mod network;
mod podman;
mod process;
mod refusal;
mod run;
pub mod sector;
mod vm;

use std::time::{Duration, Instant};

pub use bad_roots::{BadRoot, ROOTS, write_image};
pub use cgroup::{cgroup_file, cgroup_value, cgroups_v1};
pub use console::Console;
pub use host::{
    Dir, Loop, Mounted, directory, guest, host_script, mount_namespace, podman_with, rootfs, run, source,
    static_program, text,
};
pub use image::{Image, with_tiny};
pub use network::{
    Bridge, PAGE, Pod, container, echo, free_port, gets_page, host_server, own_traces, page, published, serve, traces,
    wget,
};
pub use podman::{Form, Podman, rootless_home, unique};
pub use process::{Traces, children, kill_process, qemu};
pub use refusal::{FORMS, assert_refused, podman_run, refusal};
pub use run::{Run, start, tiny};
pub use vm::{MOUNTED, Vm};

/// Label of everything that the tests create; the next run removes what an earlier one left.
pub const LABEL: &str = "crun-qemu-test";
/// Longest wait for output of a guest: twenty times what an idle machine needs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until `holds`, which takes a moment at most on an idle machine.
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(PATIENCE / 8, what, holds);
}

/// Waits until `holds`, at most for `time`.
#[track_caller]
pub fn eventually_within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
