//! What guests are told on their first boot, by cloud-init, by Ignition and by systemd's credentials.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::harness::{Form, Podman, Run, Vm, directory, rootfs, run, text};
use crate::network::Bridge;

const MEMORY: [&str; 4] = ["--memory", "768m", "--hostname", "first-boot"];

/// A guest in the build tree's form.
fn guest<'a>(what: &'a [&'a str], options: &'a [&'a str]) -> Run<'a> {
    Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &MEMORY, what, options }
}

fn write(dir: &Path, name: &str, content: &str) -> String {
    fs::write(dir.join(name), content).unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

/// A key pair of the user's own: the paths of its halves.
fn key(dir: &Path) -> (String, String) {
    let private = dir.join("id").to_str().unwrap().to_owned();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", &private]);
    let public = format!("{private}.pub");
    (private, public)
}

/// Logs in from the host, with the user's own key, at the container's address.
#[track_caller]
fn ssh(vm: &Vm, private: &str, user: &str) {
    let address = vm.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-i", private, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", &format!("{user}@{address}"), "true"]);
    let output = ssh.output().unwrap();
    assert!(output.status.success(), "{user}: {}", text(&output.stderr));
}

/// The user's entry in the shadow file is a hash of the password.
#[track_caller]
pub fn has_password(vm: &Vm, user: &str, password: &str) {
    let entry = vm.exec_ok(&["root", "getent", "shadow", user]);
    let hash = entry.split(':').nth(1).unwrap();
    let salt = hash.split('$').nth(2).unwrap_or_else(|| panic!("{entry}"));
    assert_eq!(run("openssl", &["passwd", "-6", "-salt", salt, password]), hash);
}

/// Each line of `what` in the guest, by a shell of root's.
#[track_caller]
fn finds(vm: &Vm, table: &[(&str, &str)]) {
    for (script, want) in table {
        assert_eq!(vm.exec_ok(&["root", "sh", "-c", script]), *want, "{script}");
    }
}

/// Waits for cloud-init's end, which has to be a good one.
#[track_caller]
fn settled(vm: &Vm) {
    let output = vm.exec(&["debian", "cloud-init", "status", "--wait", "--long"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

const USER_DATA: &str = r#"#cloud-config
users:
  - default
  - name: alice
    ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOu5lPAOd2WEWCGcrKkN5uL8ug5xgE9jaRjXIUdta+MW alice]
ssh_authorized_keys:
  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOu5lPAOd2WEWCGcrKkN5uL8ug5xgE9jaRjXIUdta+MW theirs
mounts:
  - [theirs, /mnt/theirs, tmpfs, "size=1m"]
bootcmd:
  - echo boot >> /var/tmp/bootcmd
runcmd:
  - [sh, -c, "echo run >> /var/tmp/runcmd"]
  - echo second >> /var/tmp/runcmd
write_files:
  - {path: /etc/theirs, content: "a \"b\" ä\n", permissions: "0640"}
"#;

const HOST_KEYS: &str =
    "ssh_host_ed25519_key 600\nssh_host_ed25519_key.pub 644\nssh_host_rsa_key 600\nssh_host_rsa_key.pub 644";

/// The most usual kind of user-data, with every other option; then the same container again.
#[test]
fn cloud_init_with_a_configuration_of_the_users() {
    let dir = directory();
    write(dir.path(), "user-data", USER_DATA);
    write(dir.path(), "meta-data", "instance-id: theirs\npublic-keys: []\n");
    write(dir.path(), "vendor-data", "#!/bin/sh\necho vendor > /etc/vendor\n");
    let keys = directory();
    let (private, public) = key(keys.path());
    let root = rootfs(Podman::Rootful, "cloud");
    let (what, seed) = (["--rootfs", root.path().to_str().unwrap()], dir.path().to_str().unwrap());
    let options = ["--cloud-init", seed, "--password", "pa ss $w", "--ssh-key", &public];
    let (vm, mut console) = guest(&what, &options).attached(true);
    console.expect("login: ");
    settled(&vm);
    let theirs = [
        ("hostname", "first-boot"),
        ("cat /etc/theirs; stat -c %a /etc/theirs", "a \"b\" ä\n640"),
        ("cat /etc/vendor", "vendor"),
        ("findmnt -n -o SOURCE /mnt/theirs", "theirs"),
        ("grep . ~alice/.ssh/authorized_keys | cut -d' ' -f3 | sort", "alice\ncrun-qemu\nmine"),
        ("cut -d' ' -f3 ~debian/.ssh/authorized_keys | sort -u", "crun-qemu\nmine\ntheirs"),
        ("cut -d' ' -f3 ~root/.ssh/authorized_keys | sort -u", "crun-qemu\nmine\ntheirs"),
        ("cat /sys/block/vdb/ro; blkid -o value -s LABEL /dev/vdb", "1\ncidata"),
        ("dd if=/dev/zero of=/dev/vdb count=1 2>&1 | grep -c 'not permitted'", "1"),
    ];
    finds(&vm, &theirs);
    finds(&vm, &[("cat /var/tmp/bootcmd", "boot"), ("cat /var/tmp/runcmd", "run\nsecond")]);
    vm.exec_ok(&["alice", "true"]);
    ssh(&vm, &private, "debian");
    ssh(&vm, &private, "root");
    has_password(&vm, "debian", "pa ss $w");
    console.send("debian\n");
    console.expect("Password: ");
    console.send("pa ss $w\n");
    console.expect("debian@first-boot");
    let id = "cat /var/lib/cloud/data/instance-id";
    let first = vm.exec_ok(&["root", "sh", "-c", id]);
    assert!(first.starts_with("theirs-"), "{first}");

    // What a power cut makes of host keys: without one that is mended sshd does not start.
    vm.exec_ok(&[
        "root",
        "sh",
        "-c",
        "cd /etc/ssh; for key in ssh_host_*_key; do : > $key; : > $key.pub; done; : > ssh_host_rsa_key",
    ]);
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["start", &vm.name]);
    settled(&vm);
    finds(&vm, &[("cd /etc/ssh; stat -c '%n %a' ssh_host_*; find . -empty -name 'ssh_host_*'", HOST_KEYS)]);
    finds(&vm, &[(id, &first), ("cat /var/tmp/bootcmd", "boot\nboot"), ("cat /var/tmp/runcmd", "run\nsecond")]);
    ssh(&vm, &private, "debian");
}

/// Answers every HTTP request with `body`, for as long as the test runs; returns the port.
fn serve(body: &'static str) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    port
}

/// With the interface of the name that QEMU's q35 gives it in a guest.
const NETWORK_CONFIG: &str = "version: 2\nethernets: {enp1s0: {dhcp4: true, addresses: [192.0.2.7/24]}}\n";

/// A message of parts, compressed, with one that is fetched from the container's network; a network configuration; and
/// neither a name nor a key of the user's.
#[test]
fn cloud_init_with_parts_of_other_kinds() {
    let part = |kind: &str, body: &str| format!("--=b=\nContent-Type: text/{kind}; charset=\"utf-8\"\n\n{body}\n");
    let gateway = Podman::Rootful.ok(&["network", "inspect", "podman", "--format", "{{(index .Subnets 0).Gateway}}"]);
    let port = serve("#cloud-config\nbootcmd: ['echo included > /var/tmp/included']\n");
    let message = [
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=b=\"\n\n",
        &part("x-shellscript", "#!/bin/sh\necho script > /var/tmp/script"),
        &part("cloud-boothook", "#!/bin/sh\necho hook > /var/tmp/hook"),
        &part("jinja2", "## template: jinja\n#cloud-config\nruncmd: ['echo {{ v1.local_hostname }} > /var/tmp/jinja']"),
        &part("cloud-config", "#cloud-config\nwrite_files: [{path: /etc/theirs, content: fine}]"),
        &part("x-include-url", &format!("#include\nhttp://{gateway}:{port}/part")),
        "--=b=--\n",
    ];
    let dir = directory();
    let plain = write(dir.path(), "user-data", &message.concat());
    write(dir.path(), "network-config", NETWORK_CONFIG);
    run("gzip", &["-n", &plain]);
    fs::rename(format!("{plain}.gz"), &plain).unwrap();
    let root = rootfs(Podman::Rootful, "cloud");
    let (what, seed) = (["--rootfs", root.path().to_str().unwrap()], dir.path().to_str().unwrap());
    let vm = guest(&what, &["--cloud-init", seed, "--disk-size", "5G"]).detached();
    settled(&vm);
    finds(
        &vm,
        &[
            ("cat /var/tmp/script", "script"),
            ("cat /var/tmp/hook", "hook"),
            ("cat /var/tmp/jinja", "first-boot"),
            ("cat /etc/theirs", "fine"),
            ("cat /var/tmp/included", "included"),
            (
                "ip -o -4 address show enp1s0 | grep -o '192.0.2.7/24\\|10.0.99.2/30' | sort",
                "10.0.99.2/30\n192.0.2.7/24",
            ),
            ("grep -c . ~debian/.ssh/authorized_keys", "1"),
            ("lsblk -bdno SIZE /dev/vda; df --output=size -BG / | tail -1 | tr -d ' '", "5368709120\n5G"),
        ],
    );
}

const IGNITION: &str = r#"{
  "ignition": {"version": "3.3.0"},
  "passwd": {"users": [
    {"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOu5lPAOd2WEWCGcrKkN5uL8ug5xgE9jaRjXIUdta+MW theirs"]},
    {"name": "alice"}
  ]},
  "storage": {"files": [{"path": "/etc/theirs", "mode": 416, "contents": {"source": "data:,theirs%0A"}}]},
  "systemd": {"units": [{"name": "theirs.service", "enabled": true, "contents":
    "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo boot >> /var/tmp/boots'\n[Install]\nWantedBy=multi-user.target\n"}]}
}"#;

#[test]
fn ignition() {
    let dir = directory();
    let config = write(dir.path(), "config.ign", IGNITION);
    let (private, public) = key(dir.path());
    let root = rootfs(Podman::Rootful, "ignition");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let options = ["--ignition", &config, "--password", "pa ss $w", "--ssh-key", &public];
    let (first, second) = (Bridge::new(Podman::Rootful), Bridge::new(Podman::Rootful));
    let gateway = |network: &Bridge| {
        let gateway = network.0.ok(&["network", "inspect", "-f", "{{(index .Subnets 0).Gateway}}", &network.1]);
        ("getent hosts host.containers.internal | cut -d' ' -f1", gateway)
    };
    let run = guest(&what, &options);
    let podman_options = [run.podman_options, &["--network", &first.1]].concat();
    let vm = Run { podman_options: &podman_options, ..run }.detached();
    vm.exec_ok(&["core", "systemctl", "is-system-running", "--wait"]);
    let (names, want) = gateway(&first);
    finds(
        &vm,
        &[
            (names, &want),
            ("hostname", "first-boot"),
            ("cat /etc/theirs; stat -c %a /etc/theirs", "theirs\n640"),
            ("cat /var/tmp/boots", "boot"),
            ("cat ~core/.ssh/authorized_keys.d/ignition | cut -d' ' -f3 | sort -u", "crun-qemu\nmine\ntheirs"),
            ("sed -i s/theirs/changed/ /etc/theirs; cat /etc/theirs", "changed"),
        ],
    );
    vm.exec_ok(&["alice", "true"]);
    has_password(&vm, "core", "pa ss $w");
    ssh(&vm, &private, "core");

    // Ignition writes nothing on a second boot, and yet the guest knows what has changed around the container.
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["network", "disconnect", &first.1, &vm.name]);
    vm.podman.ok(&["network", "connect", &second.1, &vm.name]);
    vm.podman.ok(&["start", &vm.name]);
    vm.exec_ok(&["core", "systemctl", "is-system-running", "--wait"]);
    let (names, want) = gateway(&second);
    finds(&vm, &[(names, &want), ("cat /etc/theirs", "changed"), ("cat /var/tmp/boots", "boot\nboot")]);
}

/// Neither cloud-init nor Ignition: systemd takes root's keys from the SMBIOS tables.
#[test]
fn a_guest_with_nothing_but_systemd() {
    let dir = directory();
    let (private, public) = key(dir.path());
    let root = rootfs(Podman::Rootful, "systemd");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let vm = guest(&what, &["--ssh-key", &public]).detached();
    finds(&vm, &[("id -u", "0"), ("cut -d' ' -f3 ~/.ssh/authorized_keys | sort -u", "crun-qemu\nmine")]);
    ssh(&vm, &private, "root");
    let argv = vm.exec_ok(&["-", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
    assert!(argv.contains("qemu-system") && !argv.contains("PRIVATE"), "{argv}");
    assert_eq!(vm.exec_ok(&["-", "stat", "-c", "%a", "/crun-qemu/ssh/id"]), "600");
}
