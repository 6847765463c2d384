//! `--print-libvirt-xml` and `--merge-libvirt-xml`.

use std::fs;

use crun_qemu::domain::Overrides;

use crate::harness::{Form, Podman, Run, Vm, directory, mount_namespace, rootfs, text};

/// Runs its arguments with `$0` as the system's policy.
const WITH_POLICY: &str = "mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/upper/crun-qemu /mnt/work \
    && echo \"$0\" >/mnt/upper/crun-qemu/policy \
    && mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc && exec \"$@\"";

#[test]
fn print_option_prints_the_domain_and_starts_no_vm() {
    prints_the_domain(Podman::Rootful, Form::BuildTree);
    prints_the_domain(Podman::Rootless, Form::BuildTree);
}

#[test]
fn print_option_works_with_the_plugin() {
    prints_the_domain(Podman::Rootful, Form::Plugin);
}

fn prints_the_domain(podman: Podman, form: Form) {
    let root = rootfs(podman, "tiny");
    let what = root.as_root();
    let options = ["--print-libvirt-xml"];
    let run = Run { podman, form, podman_options: &[], what: &what, options: &options };
    let vm = Vm::new(podman);
    let output = podman.output(&run.args(&vm.name));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let xml = text(&output.stdout);
    assert!(Overrides::parse(&xml).is_ok() && xml.contains("<memory unit=\"b\">2147483648</memory>"), "{xml}");
    // It is the document that libvirt would get.
    let config = fs::read(vm.private_dir().join("root/crun-qemu/supervisor.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["domain"], xml);
    // The same on a terminal.
    let (vm, console) = run.attached(true);
    let (status, output) = console.finish();
    let output = text(&output);
    assert!(status == Some(0) && output.contains("<domain type=\"qemu\""), "{status:?} {output}");
    drop(vm);
    let (status, stderr) = run.foreground();
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
}

#[test]
fn merge_option_overrides_the_domain_if_the_policy_allows_it() {
    let (dir, root) = (directory(), rootfs(Podman::Rootful, "tiny"));
    let what = root.as_root();
    let start = |name: &str, policy: &str, file: &str| {
        // podman would mount a network namespace in this mount namespace, where later commands do not see it.
        let podman_options = ["-d", "--network", "none", "--cpus", "1"];
        let options = ["--merge-libvirt-xml", file];
        let run = Run {
            podman: Podman::Rootful,
            form: Form::BuildTree,
            podman_options: &podman_options,
            what: &what,
            options: &options,
        };
        mount_namespace(WITH_POLICY).args([policy, "podman"]).args(run.args(name)).output().unwrap()
    };
    let file = |name: &str, content: &str| {
        fs::write(dir.join(name), content).unwrap();
        dir.join(name).to_str().unwrap().to_string()
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
            "--merge-libvirt-xml rel.xml: a relative path, and the engine does not pass on the \
             working directory (give an absolute path)"
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
        let vm = Vm::new(Podman::Rootful);
        let output = start(&vm.name, policy, &file);
        let stderr = text(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(125..=127)) && stderr.trim().ends_with(&format!("qemu: {line}")),
            "{stderr}"
        );
    }

    let two = "<domain><vcpu>2</vcpu><description>me &amp; <![CDATA[<mine>]]></description></domain>";
    let two = file("two", two);
    let vm = Vm::new(Podman::Rootful);
    let output = start(&vm.name, allow, &two);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(vm.exec_ok(&["root", "nproc", "--all"]), "2");
    let domain = vm.container_sh("cat /run/v/run/qemu/*.xml /run/v/etc/qemu/*.xml 2>/dev/null || true");
    assert!(domain.contains("<description>me &amp; &lt;mine&gt;</description>"), "{domain}");
    assert_eq!(vm.stop(), 0);
}
