//! The image's working directory, in which the plugin's execs start: crun needs it in the container around the VM.

use std::fs;

use crate::harness::{Form, Podman, rootfs, tiny};

#[test]
fn exec_starts_in_the_images_working_directory() {
    for cwd in [
        "/var/www/html",
        "/etc/nginx",
        "/usr/local/app",
        "/usr/src/nobody/has this",
        "/lib/nobody",
        "/run/a/b",
        "/tmp/c",
    ] {
        let root = rootfs(Podman::Rootful, "tiny");
        // podman requires it in the image.
        fs::create_dir_all(root.join(&cwd[1..])).unwrap();
        let what = root.as_root();
        let vm = tiny(Podman::Rootful, Form::Plugin, &what, &["-w", cwd]).detached();
        let found = vm.container_sh("pwd -P; touch . 2>&1 | grep -o Read-only.*; ls /usr/bin/env /usr/local/bin/root");
        let cwd = cwd.replace("/lib/", "/usr/lib/");
        assert_eq!(found, format!("{cwd}\nRead-only file system\n/usr/bin/env\n/usr/local/bin/root"));
    }
}

#[test]
fn impossible_working_directory_is_refused() {
    let root = rootfs(Podman::Rootful, "tiny");
    fs::create_dir_all(root.join("usr/bin/env")).unwrap();
    let what = root.as_root();
    let (_, stderr) = tiny(Podman::Rootful, Form::Plugin, &what, &["-w", "/usr/bin/env"]).foreground();
    let want = "qemu: working directory /usr/bin/env: no directory of that name can be there in the container around the \
                VM (podman run --workdir /)";
    assert!(stderr.contains(want), "{stderr}");
}
