//! Images, volumes and pods that try to get a host file onto the guest's seed disk: each attempt ends with one line and
//! without the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::{
    Dir, FORMS, Form, Image, LABEL, Pod, Podman, Run, Vm, directory, refusal, rootfs, text, unique, with_tiny,
};

/// Content of the protected file. It is valid user-data, so that the content is no reason to refuse it.
const SECRET: &str = "#cloud-config\n# the secret of the host\n";
const LINK: &str = "a symbolic link is in it, and none is followed there";

/// The protected file.
fn secret() -> (Dir, PathBuf) {
    let dir = directory();
    let path = dir.join("secret");
    fs::write(&path, SECRET).unwrap();
    (dir, path)
}

/// A NoCloud directory whose vendor-data is a link to the protected file.
fn trap(dir: &Path, secret: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("meta-data"), "instance-id: x\n").unwrap();
    symlink(secret, dir.join("vendor-data")).unwrap();
}

/// Whether the container's bundle contains the protected file's content.
fn has_secret(vm: &Vm) -> bool {
    let bundle = PathBuf::from(vm.inspect("{{.OCIConfigPath}}")).parent().unwrap().to_owned();
    assert!(bundle.join("config.json").exists());
    let found = std::process::Command::new("grep").args(["-rlF", "secret of the host"]).arg(&bundle).output().unwrap();
    !text(&found.stdout).is_empty()
}

/// Error line of `podman run` with these arguments.
fn line(podman_options: &[&str], form: Form, args: &[&str]) -> String {
    let vm = Vm::new(Podman::Rootful);
    let mut words: Vec<String> = ["run", "-d", "--name", &vm.name, "--label", LABEL].map(String::from).to_vec();
    words.extend(form.options());
    words.extend(podman_options.iter().chain(args).map(ToString::to_string));
    let line = refusal(&vm, &vm.podman.output(&words));
    assert!(!has_secret(&vm));
    line
}

/// Rest of the line for a source that may not name paths on the host.
fn not_granted(who: &str) -> String {
    format!(
        "no mount of the container has it, and {who} may not name a path on the host (mount it with -v at that path; \
         write the line host-paths = allow into /etc/crun-qemu/policy or /root/.config/crun-qemu/policy permits it)"
    )
}

/// The directory of an image's first layer, which exists before any container.
fn layer(image: &Image) -> PathBuf {
    let digest = Podman::Rootful.ok(&["inspect", "--format", "{{index .RootFS.Layers 0}}", &image.tag]);
    let storage = Podman::Rootful.ok(&["info", "--format", "{{.Store.GraphRoot}}"]);
    let layer = Path::new(&storage).join("overlay").join(digest.strip_prefix("sha256:").unwrap()).join("diff");
    assert!(layer.join("x/meta-data").exists(), "{} is not the layer", layer.display());
    layer
}

/// The layer's path follows from its content, so that the image's author knows it.
#[test]
fn image_cannot_name_its_own_layer() {
    let ((_dir, secret), context) = (secret(), with_tiny());
    trap(&context.join("x"), &secret);
    let base = Image::built(context.path(), "", &[]);
    let x = layer(&base).join("x");
    let (x, empty) = (x.to_str().unwrap(), directory());
    let annotation = format!("run.oci.qemu.cloud-init={x}");
    let from = |lines: &str, options: &[&str]| {
        Image::from_recipe(empty.path(), &format!("FROM {}\n{lines}\n", base.tag), options)
    };
    let annotated = from("", &["--annotation", &annotation]);
    for form in FORMS {
        assert_eq!(
            line(&[], form, &[&annotated.tag, ""]),
            format!("--cloud-init {x}: {}", not_granted("an annotation"))
        );
    }
    let command = from(&format!(r#"CMD ["", "--cloud-init", "{x}"]"#), &[]);
    let storage = format!(
        "--cloud-init {x}: it is inside /var/lib/containers, where an engine keeps what images brought (mount it with -v \
         and name it as the container sees it)"
    );
    assert_eq!(line(&[], Form::BuildTree, &[&command.tag]), storage);
}

#[test]
fn options_of_an_images_command_read_no_host_file() {
    let context = with_tiny();
    let policy = "no policy allows reading files of the host (write the line host-paths = allow into \
                  /etc/crun-qemu/policy or /root/.config/crun-qemu/policy)";
    for (option, value, want) in [
        ("--merge-libvirt-xml", "/etc/shadow", format!(": {policy}")),
        ("--password-file", "/etc/shadow", format!(": {policy}")),
        ("--cloud-init", "/root/no-such-directory", " /root/no-such-directory: no such directory".into()),
        ("--ignition", "/etc/shadow", ": not JSON: expected value at line 1 column 1".into()),
        ("--ssh-key", "/etc/shadow", ": not a public key in OpenSSH's format".into()),
        (
            "--blockdev",
            "source=/dev/sda,target=/x,format=raw",
            " source=/dev/sda: the engine granted no such file (-v FILE:/dev/sda)".into(),
        ),
    ] {
        let image = Image::built(context.path(), &format!(r#"ENTRYPOINT ["", "{option}", "{value}"]"#), &[]);
        assert_eq!(line(&[], Form::BuildTree, &[&image.tag]), format!("{option}{want}"));
    }
}

/// A named volume, removed when this is dropped.
struct Volume(String);

impl Drop for Volume {
    fn drop(&mut self) {
        Podman::Rootful.output(&["volume", "rm", "-f", &self.0]);
    }
}

#[test]
fn link_in_a_volume_reads_no_host_file() {
    let ((_dir, secret), root) = (secret(), rootfs(Podman::Rootful, "tiny"));
    let volume = Volume(unique(LABEL));
    Podman::Rootful.ok(&["volume", "create", "--label", LABEL, &volume.0]);
    let place = Podman::Rootful.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume.0]);
    trap(&Path::new(&place).join("x"), &secret);
    let (x, mount) = (format!("{place}/x"), format!("{}:/ci:ro", volume.0));
    let rootfs = [&root.as_root()[..], &["", "--emulated"]].concat();
    let run =
        |podman_options: &[&str], args: &[&str]| line(podman_options, Form::BuildTree, &[&rootfs[..], args].concat());

    let annotation = format!("run.oci.qemu.cloud-init={x}");
    let line = run(&["--annotation", &annotation], &[]);
    assert_eq!(line, format!("--cloud-init {x}: {}", not_granted("an annotation")));
    let line = run(&[], &["--cloud-init", &x]);
    assert!(line.starts_with(&format!("--cloud-init {x}: it is inside /var/lib/containers, where")), "{line}");
    let mounted = ["-v", &mount, "--annotation", "run.oci.qemu.cloud-init=/ci/x"];
    assert_eq!(run(&mounted, &[]), format!("--cloud-init /ci/x/vendor-data: {LINK}"));

    // A regular file in the mounted volume is read: nothing else prevented it.
    let data = Path::new(&place).join("x/vendor-data");
    fs::remove_file(&data).unwrap();
    fs::write(&data, SECRET).unwrap();
    let what = &rootfs[..2];
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &mounted, what, options: &[] };
    assert!(has_secret(&run.detached()), "the test does not find the file on the seed disk");
}

#[test]
fn pod_names_mounted_files_only() {
    let ((dir, secret), root) = (secret(), rootfs(Podman::Rootful, "tiny"));
    fs::rename(secret, dir.join("vendor-data")).unwrap();
    fs::write(dir.join("meta-data"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    let pod = Pod::new(Podman::Rootful, &[]);
    let what = root.as_root();
    let args = [what[0], what[1], "", "--emulated", "--cloud-init", path];
    let refused = line(&["--pod", &pod.1], Form::BuildTree, &args);
    assert_eq!(refused, format!("--cloud-init {path}: {}", not_granted("a pod's container")));

    let (mount, options) = (format!("{path}:/ci:ro"), ["--cloud-init", "/ci"]);
    let podman_options = ["--pod", &pod.1, "-v", &mount];
    let (podman, form) = (Podman::Rootful, Form::BuildTree);
    let vm = Run { podman, form, podman_options: &podman_options, what: &what, options: &options }.detached();
    assert!(has_secret(&vm));
}
