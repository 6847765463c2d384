//! Images whose manifests say what engines say: podman copies that before 4.6, and it comes to nothing.

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, text, unique};
use crate::{build, line, with_tiny};

/// Another engine, and a container that only holds a pod's namespaces, which is none of a VM's.
const FORGED: &[&str] = &[
    "--annotation",
    "io.container.manager=cri-o",
    "--annotation",
    "io.kubernetes.cri.container-type=sandbox",
    "--annotation",
    "io.kubernetes.cri-o.ContainerType=sandbox",
    "--annotation",
    "io.kubernetes.cri-o.SandboxID=f1aed84e4940",
];

#[test]
fn an_image_is_no_sandbox() {
    let options = [FORGED, &["--annotation", "run.oci.qemu.bogus=1"]].concat();
    let image = build(with_tiny().path(), "", &options);
    // Only who takes it for a VM looks so far.
    let told = line(Form::BuildTree, &image, &[]);
    assert_eq!(told, "annotation run.oci.qemu.bogus: unknown (crun-qemu options lists all)");
}

/// What a user asks of podman is done, whoever the image says that podman is.
#[test]
fn an_image_does_not_change_what_the_user_gives_it() {
    let image = build(with_tiny().path(), "", FORGED);
    let dir = directory();
    let volume = format!("{}:/run/secrets", dir.path().display());
    let run = Run {
        podman: Podman::Rootful,
        form: Form::BuildTree,
        podman_options: &["--memory", "1g", "-v", &volume],
        what: &[&image.0],
        options: &["--print-libvirt-xml"],
    };
    let vm = Vm { podman: run.podman, name: unique(LABEL) };
    let output = run.podman.output(&run.args(&vm.name));
    let (xml, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(xml.contains("<target dir=\"/run/secrets\"/>"), "{xml}");
    // Nor is it one of Kubernetes', which would have less memory.
    assert!(xml.contains("<memory unit=\"b\">1073741824</memory>") && !errors.contains("--memory"), "{xml}{errors}");
}
