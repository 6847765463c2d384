//! The libvirt domain shown, and an administrator's document laid over it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crun_qemu::domain::Overrides;

use crate::harness::{Form, LABEL, Podman, Run, Vm, directory, rootfs, text, unique};

/// Runs its arguments where the system's policy is `$0`, in a mount namespace of their own.
const WITH_POLICY: &str = "mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/upper/crun-qemu /mnt/work \
    && echo \"$0\" >/mnt/upper/crun-qemu/policy \
    && mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc && exec \"$@\"";

fn with_policy(policy: &str, args: &[String]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", WITH_POLICY, policy, "podman"]).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn the_domain_is_printed_and_no_vm_runs() {
    printed(Podman::Rootful, Form::BuildTree);
    printed(Podman::Rootless, Form::BuildTree);
}

#[test]
fn the_domain_is_printed_with_the_plugin() {
    printed(Podman::Rootful, Form::Plugin);
}

fn printed(podman: Podman, form: Form) {
    let root = rootfs(podman, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--print-libvirt-xml"];
    let run = Run { podman, form, podman_options: &[], what: &what, options: &options };
    let vm = Vm { podman, name: unique(LABEL) };
    let output = podman.output(&run.args(&vm.name));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let xml = text(&output.stdout);
    assert!(Overrides::parse(&xml).is_ok() && xml.contains("<memory unit=\"b\">2147483648</memory>"), "{xml}");
    // What libvirt would have been given.
    let bundle = vm.inspect("{{.OCIConfigPath}}");
    let launch = Path::new(&bundle).with_file_name("crun-qemu").join("root/crun-qemu/supervisor.json");
    let launch: serde_json::Value = serde_json::from_slice(&fs::read(launch).unwrap()).unwrap();
    assert_eq!(launch["domain"], xml);
    // As people would ask for it; on a terminal too.
    let (vm, console) = run.attached(true);
    let (status, said) = console.finish();
    let said = text(&said);
    assert!(status == Some(0) && said.contains("<domain type=\"qemu\""), "{status:?} {said}");
    drop(vm);
    let (status, stderr) = run.refused();
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_document_is_laid_over_the_domain_where_the_policy_allows_it() {
    let (dir, root) = (directory(), rootfs(Podman::Rootful, "tiny"));
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let start = |name: &str, policy: &str, file: &str| {
        // podman mounts the container's network namespace where other namespaces do not see it.
        let podman_options = ["-d", "--network", "none", "--cpus", "1"];
        let options = ["--merge-libvirt-xml", file];
        let run = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &podman_options,
            what: &what,
            options: &options,
        };
        with_policy(policy, &run.args(name))
    };
    let file = |name: &str, content: &str| {
        fs::write(dir.path().join(name), content).unwrap();
        dir.path().join(name).to_str().unwrap().to_string()
    };
    let allow = "host-paths = allow";
    let wrong = file("wrong", "<network/>");
    for (policy, file, line) in [
        (
            "host-paths = deny",
            wrong.clone(),
            "--merge-libvirt-xml: /etc/crun-qemu/policy denies reading files of the host \
            (line 1 of it would have to be: host-paths = allow)"
                .to_string(),
        ),
        (
            allow,
            "rel.xml".into(),
            "--merge-libvirt-xml rel.xml: a relative path, and the engine does not tell from which \
            directory (give an absolute path)"
                .into(),
        ),
        (allow, "/absent".into(), "--merge-libvirt-xml /absent: no such file".into()),
        (
            allow,
            wrong.clone(),
            format!(
                "--merge-libvirt-xml {wrong}: not a libvirt domain: its root element is <network>, \
            not <domain>"
            ),
        ),
        (
            allow,
            file("open", "<domain>"),
            format!(
                "--merge-libvirt-xml {}/open: not a libvirt domain: it ends within \
            <domain>",
                dir.path().display()
            ),
        ),
    ] {
        let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
        let output = start(&vm.name, policy, &file);
        let stderr = text(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(125..=127)) && stderr.trim().ends_with(&format!("qemu: {line}")),
            "{stderr}"
        );
    }

    let two = "<domain><vcpu>2</vcpu><description>me &amp; <![CDATA[<mine>]]></description></domain>";
    let two = file("two", two);
    let vm = Vm { podman: Podman::Rootful, name: unique(LABEL) };
    let output = start(&vm.name, allow, &two);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(vm.exec_ok(&["root", "nproc", "--all"]), "2");
    let domain = vm.exec_ok(&["-", "sh", "-c", "cat /run/v/run/qemu/*.xml /run/v/etc/qemu/*.xml 2>/dev/null || true"]);
    assert!(domain.contains("<description>me &amp; &lt;mine&gt;</description>"), "{domain}");
    assert_eq!(vm.stop(), 0);
}
