//! SELinux labels of the files that the runtime creates. Writing them needs no SELinux on the host.

use crate::harness::{Form, Podman, directory, host_script, run, start};

const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// The runtime is started by a script that writes a label into the configuration, as engines do on SELinux hosts.
#[test]
fn files_of_a_container_carry_its_label() {
    let dir = directory();
    let script = format!(
        "#!/bin/sh\nfor word; do case $before in --bundle|-b) \
         sed -i 's/\"linux\":{{/&\"mountLabel\":\"{LABEL}\",/' \"$word/config.json\";; esac; before=$word; done\n\
         exec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_crun-qemu")
    );
    let runtime = host_script(&dir, "runtime", &script);
    let options = ["--runtime", runtime.to_str().unwrap()];
    let (vm, _root) = start(Podman::Rootful, Form::BuildTree, &options, &[]);
    let known = vm.exec_ok(&["-", "ls", "/crun-qemu/capabilities"]);
    assert!(known.ends_with(".xml"), "{known}");
    let bundle = vm.private_dir();
    // find prints a file without a label too, but then exits with a failure.
    let all = run("sh", &["-c", "find \"$0\" -printf '%Z %P\n' 2>/dev/null || :", bundle.to_str().unwrap()]);
    let names: Vec<_> = all.lines().filter_map(|line| line.strip_prefix(LABEL)).map(str::trim).collect();
    let root = [
        "",
        "/crun-qemu/supervisor.json",
        "/crun-qemu/seed.img",
        "/crun-qemu/ssh/id",
        "/etc/passwd",
        "/lib",
        "/var/tmp",
    ];
    for name in root.map(|name| format!("root{name}")).into_iter().chain([
        "".into(),
        "overlay.qcow2".into(),
        "fd-store".into(),
        "capabilities".into(),
        format!("capabilities/{}", known.lines().next().unwrap()),
    ]) {
        assert!(names.contains(&name.as_str()), "{name}: {all}");
    }
    // Without a label are only files that others create later (crun's mount points, the fd store's socket) and the one
    // that only crun reads.
    let others: Vec<_> = all.lines().filter(|line| !line.starts_with(LABEL)).collect();
    let expected =
        |line: &str| line.ends_with("config.json") || line.ends_with("fd-store/socket") || line.contains("root/");
    assert!(others.iter().all(|line| expected(line)), "{others:?}");
}
