//! An image's working directory, which the plugin's execs start in as everybody's do: crun looks for it in the container.

use std::fs;

use crate::harness::{Form, Podman, rootfs, tiny};

#[test]
fn wherever_the_image_has_it() {
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
        // podman wants it in the image.
        fs::create_dir_all(root.path().join(&cwd[1..])).unwrap();
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let vm = tiny(Podman::Rootful, Form::Plugin, &what, &["-w", cwd]).detached();
        let found = vm.exec_ok(&[
            "-",
            "sh",
            "-c",
            "pwd -P; touch . 2>&1 | grep -o Read-only.*; ls /usr/bin/env /usr/local/bin/root",
        ]);
        let cwd = cwd.replace("/lib/", "/usr/lib/");
        assert_eq!(found, format!("{cwd}\nRead-only file system\n/usr/bin/env\n/usr/local/bin/root"));
    }
}

#[test]
fn where_it_cannot_be() {
    let root = rootfs(Podman::Rootful, "tiny");
    fs::create_dir_all(root.path().join("usr/bin/env")).unwrap();
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (_, said) = tiny(Podman::Rootful, Form::Plugin, &what, &["-w", "/usr/bin/env"]).refused();
    let want = "qemu: working directory /usr/bin/env: no directory of that name can be there in the container around the \
                VM (podman run --workdir /)";
    assert!(said.contains(want), "{said}");
}
