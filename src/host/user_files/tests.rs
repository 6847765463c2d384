use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::OFlag;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A request with these mounts and annotations, and `args` after the empty argument.
fn request(mounts: Value, annotations: Value, args: &[&str]) -> Request {
    let args: Vec<_> = [""].iter().chain(args).collect();
    let config = json!({
        "ociVersion": "1.0.2", "root": {"path": "/r"}, "linux": {},
        "process": {"cwd": "/", "args": args, "user": {"uid": 0, "gid": 0}},
        "mounts": mounts, "annotations": annotations,
    });
    Request::parse(&config.to_string()).unwrap()
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({"destination": destination, "source": source, "type": "bind", "options": ["rbind", "ro"]})
}

/// `file` with "x" in it, and `link` to that.
fn files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    symlink(".", dir.path().join("here")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    dir
}

fn files_of<'a>(request: &'a Request, storage: &Path) -> UserFiles<'a> {
    UserFiles { request, storage: vec![storage.to_owned()] }
}

#[test]
fn the_mount_that_a_path_is_in() {
    let at = |destination: &str| json!({"destination": destination, "source": "/s", "options": ["bind"]});
    let tmpfs = json!({"destination": "/run", "source": "tmpfs", "type": "tmpfs"});
    let mounts = json!([at("/a"), at("/a/b"), at("/a/f.ign"), at("/run/x"), tmpfs, at("/c"), at("/c/../d")]);
    let request = request(mounts, json!({}), &[]);
    for (path, want) in [
        ("/a", Some(("/a", ""))),
        ("/a/x/y", Some(("/a", "x/y"))),
        ("/a/b/y", Some(("/a/b", "y"))),
        ("/a/b/../../a/y", Some(("/a", "y"))),
        ("/ab", None),
        ("/a/../etc/shadow", None),
        ("/a/f.ign", Some(("/a/f.ign", ""))),
        // Hidden by what is mounted over it.
        ("/run/x/y", None),
        ("/d/y", Some(("/c/../d", "y"))),
    ] {
        let got = granted(&request.mounts, Path::new(path)).map(|(mount, below)| (mount.destination().clone(), below));
        assert_eq!(got, want.map(|(mount, below)| (mount.into(), below.into())), "{path}");
    }
}

#[test]
fn a_mount_is_read_below_its_source_and_nowhere_else() {
    let (dir, secret) = (files(), files());
    symlink(secret.path(), dir.path().join("out")).unwrap();
    symlink(secret.path().join("file"), dir.path().join("vendor-data")).unwrap();
    fs::hard_link(dir.path().join("file"), dir.path().join("user-data")).unwrap();
    let mounts = json!([bind(dir.path(), "/ci"), bind(&dir.path().join("file"), "/one.ign")]);
    let annotations = json!({"run.oci.qemu.cloud-init": "/ci", "io.kubernetes.cri-o.SandboxID": "x"});
    let request = request(mounts, annotations, &[]);
    let files = files_of(&request, secret.path());
    for path in ["/ci/file", "/ci/sub/../file", "/one.ign"] {
        assert_eq!(files.file("ignition", Path::new(path)).unwrap(), b"x", "{path}");
    }
    let link = "a symbolic link is in it, and none is followed there";
    for (path, why) in [
        ("/ci/link", link),
        ("/ci/out/file", link),
        ("/ci/here/file", link),
        ("/ci/absent", "no such file"),
        ("/ci/fifo", "not a regular file"),
        ("/ci/sub", "not a regular file"),
        ("/one.ign/x", "Not a directory"),
    ] {
        let e = files.file("ignition", Path::new(path)).unwrap_err().to_string();
        assert_eq!(e, format!("--ignition {path}: {why}"));
    }
    let directory = files.directory("cloud-init", Path::new("/ci")).unwrap();
    assert_eq!((directory.read("user-data"), directory.read("absent")), (Ok(Some(b"x".to_vec())), Ok(None)));
    let e = directory.read("vendor-data").unwrap_err().to_string();
    assert_eq!(e, format!("--cloud-init /ci/vendor-data: {link}"));
    for (path, why) in [("/ci/out", link), ("/ci/absent", "no such directory"), ("/ci/file", "not a directory")] {
        let e = files.directory("cloud-init", Path::new(path)).err().unwrap().to_string();
        assert_eq!(e, format!("--cloud-init {path}: {why}"));
    }
}

#[test]
fn who_may_name_a_path_on_the_host() {
    let (dir, nothing) = (files(), files());
    let path = dir.path().join("file");
    let given = ["--ignition", path.to_str().unwrap()];
    let by_annotation = json!({"run.oci.qemu.ignition": path});
    let pod = json!({"io.kubernetes.cri.sandbox-id": "x"});
    for (annotations, args, refused) in [
        (json!({}), &given[..], None),
        (by_annotation.clone(), &given[..], None),
        (by_annotation, &[], Some("an annotation")),
        (pod, &given[..], Some("a pod's container")),
    ] {
        let request = request(json!([]), annotations, args);
        let got = files_of(&request, nothing.path()).file("ignition", &path);
        let got = got.map_err(|e| e.why().to_owned());
        let want = refused.map_or(Ok(b"x".to_vec()), |who| {
            Err(format!("no mount of the container has it, and {who} may not name a path on the host"))
        });
        assert_eq!(got, want, "{args:?}");
    }
}

#[test]
fn what_is_no_users_file_on_the_host() {
    let (dir, storage) = (files(), files());
    let request = request(json!([]), json!({}), &[]);
    let user_files = files_of(&request, storage.path());
    let link = |name: &str| {
        let path = dir.path().join(name);
        format!("{} is a symbolic link that others than root could have made", path.display())
    };
    let at = |name: &str| dir.path().join(name);
    for (path, why) in [
        ("relative".into(), "a relative path, and the engine does not pass on the working directory".into()),
        ("/dev/null".into(), "not a regular file".into()),
        (at("absent"), "no such file".into()),
        (at("fifo"), "not a regular file".into()),
        (at(""), "not a regular file".into()),
        (at("link"), link("link")),
        (at("here/file"), link("here")),
        (at("file/x"), "Not a directory".into()),
        (
            "/proc/self/cwd/Cargo.toml".into(),
            "it leads through a link of /proc's own, by which an image could name host files".into(),
        ),
        (
            storage.path().join("file"),
            format!("it is inside {}, where an engine keeps what images brought", storage.path().display()),
        ),
    ] {
        assert_eq!(user_files.file("ignition", &path).unwrap_err().why(), why, "{}", path.display());
    }
    assert_eq!(user_files.file("ignition", &at("sub/../file")).unwrap(), b"x");
}

#[test]
fn links_that_root_alone_could_have_made_are_followed() {
    // /bin is such a link where /usr is merged; /tmp is everybody's.
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    assert!(walk::open(Path::new("/bin/true"), flags).is_ok());
    assert!(walk::open(Path::new("/../bin/../bin/true"), flags).is_ok());
    let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let link = dir.path().join("bin");
    symlink("/bin", &link).unwrap();
    assert_eq!(walk::open(&link.join("true"), flags).err(), Some(walk::Refusal::Link(link)));
}
