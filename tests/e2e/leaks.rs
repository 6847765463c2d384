//! Authors of images, volumes and pods who try to have a file of the host's put on their guest's seed disk: each gets
//! one line, and no guest gets the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, text, unique};
use crate::hostile::{FORMS, Image, build, refusal, with_tiny};

/// In the file that nobody may have. It is what cloud-init takes, so that its content is no reason to refuse it.
const SECRET: &str = "#cloud-config\n# the secret of the host\n";
const LINK: &str = "a symbolic link is in it, and none is followed there";

/// The host's file.
fn secret() -> (TempDir, PathBuf) {
    let dir = directory();
    let path = dir.path().join("secret");
    fs::write(&path, SECRET).unwrap();
    (dir, path)
}

/// A NoCloud directory whose vendor-data is a link to the host's file.
fn trap(dir: &Path, secret: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("meta-data"), "instance-id: x\n").unwrap();
    symlink(secret, dir.join("vendor-data")).unwrap();
}

/// Whether the host's file is in anything that podman keeps for the container.
fn has_secret(vm: &Vm) -> bool {
    let bundle = PathBuf::from(vm.inspect("{{.OCIConfigPath}}")).parent().unwrap().to_owned();
    assert!(bundle.join("config.json").exists());
    let found = std::process::Command::new("grep").args(["-rlF", "secret of the host"]).arg(&bundle).output().unwrap();
    !text(&found.stdout).is_empty()
}

/// Our line for what `args` run.
fn line(podman_options: &[&str], form: Form, args: &[&str]) -> String {
    let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
    let mut words: Vec<String> = ["run", "-d", "--name", &vm.name, "--label", LABEL].map(String::from).to_vec();
    words.extend(form.options());
    words.extend(podman_options.iter().chain(args).map(ToString::to_string));
    let line = refusal(&vm, &vm.podman.output(&words));
    assert!(!has_secret(&vm));
    line
}

/// How the line goes on for somebody who may not name a path on the host.
fn not_granted(who: &str) -> String {
    format!(
        "no mount of the container has it, and {who} may not name a path on the host (mount it with -v at that path; \
         write the line host-paths = allow into /etc/crun-qemu/policy or /root/.config/crun-qemu/policy permits it)"
    )
}

/// Where podman has the first layer of an image, and with it what is in the image, before any container is made.
fn layer(image: &Image) -> PathBuf {
    let digest = Podman::Rootful.ok(&["inspect", "--format", "{{index .RootFS.Layers 0}}", &image.0]);
    let storage = Podman::Rootful.ok(&["info", "--format", "{{.Store.GraphRoot}}"]);
    let layer = Path::new(&storage).join("overlay").join(digest.strip_prefix("sha256:").unwrap()).join("diff");
    assert!(layer.join("x/meta-data").exists(), "{} is not where the layer is", layer.display());
    layer
}

/// The layer's place follows from what is in it, so that the image itself can name it.
#[test]
fn an_image_that_knows_where_its_layer_will_be() {
    let ((_dir, secret), context) = (secret(), with_tiny());
    trap(&context.path().join("x"), &secret);
    let base = build(context.path(), "", &[]);
    let x = layer(&base).join("x");
    let (x, empty) = (x.to_str().unwrap(), directory());
    let annotation = format!("run.oci.qemu.cloud-init={x}");
    let from = |lines: &str, options: &[&str]| {
        let image = Image(format!("localhost/{}", unique(LABEL)));
        let file = empty.path().join("Containerfile");
        fs::write(&file, format!("FROM {}\n{lines}\n", base.0)).unwrap();
        let mut args = vec!["build", "-q", "--layers=false", "-t", &image.0, "-f", file.to_str().unwrap()];
        args.extend(options);
        Podman::Rootful.ok(&args);
        image
    };
    let annotated = from("", &["--annotation", &annotation]);
    for form in FORMS {
        assert_eq!(line(&[], form, &[&annotated.0, ""]), format!("--cloud-init {x}: {}", not_granted("an annotation")));
    }
    let command = from(&format!(r#"CMD ["", "--cloud-init", "{x}"]"#), &[]);
    let storage = format!(
        "--cloud-init {x}: it is inside /var/lib/containers, where an engine keeps what images brought (mount it with -v \
         and name it as the container sees it)"
    );
    assert_eq!(line(&[], Form::BuildTree, &[&command.0]), storage);
}

#[test]
fn options_in_the_images_own_command() {
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
        let image = build(context.path(), &format!(r#"ENTRYPOINT ["", "{option}", "{value}"]"#), &[]);
        assert_eq!(line(&[], Form::BuildTree, &[&image.0]), format!("{option}{want}"));
    }
}

/// A named volume, removed again.
struct Volume(String);

impl Drop for Volume {
    fn drop(&mut self) {
        Podman::Rootful.output(&["volume", "rm", "-f", &self.0]);
    }
}

#[test]
fn a_volume_that_an_earlier_container_filled() {
    let ((_dir, secret), root) = (secret(), rootfs(Podman::Rootful, "tiny"));
    let volume = Volume(unique(LABEL));
    Podman::Rootful.ok(&["volume", "create", "--label", LABEL, &volume.0]);
    let place = Podman::Rootful.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume.0]);
    trap(&Path::new(&place).join("x"), &secret);
    let (x, mount) = (format!("{place}/x"), format!("{}:/ci:ro", volume.0));
    let rootfs = ["--rootfs", root.path().to_str().unwrap(), "", "--emulated"];
    let run = |podman_options: &[&str], args: &[&str]| line(podman_options, Form::BuildTree, &[&rootfs, args].concat());

    let annotation = format!("run.oci.qemu.cloud-init={x}");
    let said = run(&["--annotation", &annotation], &[]);
    assert_eq!(said, format!("--cloud-init {x}: {}", not_granted("an annotation")));
    let said = run(&[], &["--cloud-init", &x]);
    assert!(said.starts_with(&format!("--cloud-init {x}: it is inside /var/lib/containers, where")), "{said}");
    let mounted = ["-v", &mount, "--annotation", "run.oci.qemu.cloud-init=/ci/x"];
    assert_eq!(run(&mounted, &[]), format!("--cloud-init /ci/x/vendor-data: {LINK}"));

    // What the engine granted is read, and nothing else is wrong with it.
    let data = Path::new(&place).join("x/vendor-data");
    fs::remove_file(&data).unwrap();
    fs::write(&data, SECRET).unwrap();
    let what = &rootfs[..2];
    let run = Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &mounted, what, options: &[] };
    assert!(has_secret(&run.detached()), "the test would not see the file on the seed disk");
}

/// A pod, removed again.
struct Pod(String);

impl Drop for Pod {
    fn drop(&mut self) {
        Podman::Rootful.output(&["pod", "rm", "-f", "-t", "0", &self.0]);
    }
}

#[test]
fn a_pod_names_what_is_mounted_and_nothing_else() {
    let ((dir, secret), root) = (secret(), rootfs(Podman::Rootful, "tiny"));
    fs::rename(secret, dir.path().join("vendor-data")).unwrap();
    fs::write(dir.path().join("meta-data"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    let pod = Pod(unique(LABEL));
    Podman::Rootful.ok(&["pod", "create", "--label", LABEL, "--name", &pod.0]);
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let args = [what[0], what[1], "", "--emulated", "--cloud-init", path];
    let said = line(&["--pod", &pod.0], Form::BuildTree, &args);
    assert_eq!(said, format!("--cloud-init {path}: {}", not_granted("a pod's container")));

    let (mount, options) = (format!("{path}:/ci:ro"), ["--cloud-init", "/ci"]);
    let podman_options = ["--pod", &pod.0, "-v", &mount];
    let (podman, form) = (Podman::Rootful, Form::BuildTree);
    let vm = Run { podman, form, podman_options: &podman_options, what: &what, options: &options }.detached();
    assert!(has_secret(&vm));
}
