//! Configuration of guests on their first boot by cloud-init, Ignition and systemd's credentials.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::harness::{Bridge, Form, Podman, Run, Vm, directory, rootfs, run, text};

const MEMORY: [&str; 4] = ["--memory", "768m", "--hostname", "first-boot"];

/// Runs a guest by the runtime of the build tree.
fn guest<'a>(what: &'a [&'a str], options: &'a [&'a str]) -> Run<'a> {
    Run { podman: Podman::Rootful, form: Form::BuildTree, podman_options: &MEMORY, what, options }
}

fn write(dir: &Path, name: &str, content: &str) -> String {
    fs::write(dir.join(name), content).unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

/// Creates a user's key pair: the paths of the private and the public key.
fn key(dir: &Path) -> (String, String) {
    let private = dir.join("id").to_str().unwrap().to_owned();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", &private]);
    let public = format!("{private}.pub");
    (private, public)
}

/// Logs in from the host by the container's address with the user's key.
#[track_caller]
fn ssh(vm: &Vm, private: &str, user: &str) {
    let address = vm.address();
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-i", private, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", &format!("{user}@{address}"), "true"]);
    let output = ssh.output().unwrap();
    assert!(output.status.success(), "{user}: {}", text(&output.stderr));
}

/// The shadow file contains a hash of this password for the user.
#[track_caller]
pub fn has_password(vm: &Vm, user: &str, password: &str) {
    let entry = vm.exec_ok(&["root", "getent", "shadow", user]);
    let hash = entry.split(':').nth(1).unwrap();
    let salt = hash.split('$').nth(2).unwrap_or_else(|| panic!("{entry}"));
    assert_eq!(run("openssl", &["passwd", "-6", "-salt", salt, password]), hash);
}

/// Waits until cloud-init has finished without an error.
#[track_caller]
fn cloud_init_finishes(vm: &Vm) {
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

/// Plain user-data with all other options, on the first and the second boot.
#[test]
fn cloud_init_applies_the_users_configuration() {
    let dir = directory();
    write(dir.path(), "user-data", USER_DATA);
    write(dir.path(), "meta-data", "instance-id: theirs\npublic-keys: []\n");
    write(dir.path(), "vendor-data", "#!/bin/sh\necho vendor > /etc/vendor\n");
    let keys = directory();
    let (private, public) = key(keys.path());
    let root = rootfs(Podman::Rootful, "cloud");
    let (what, seed) = (root.as_root(), dir.path().to_str().unwrap());
    let options = ["--cloud-init", seed, "--password", "pa ss $w", "--ssh-key", &public];
    let (vm, mut console) = guest(&what, &options).attached(true);
    console.expect("login: ");
    cloud_init_finishes(&vm);
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
    vm.guest_prints(&theirs);
    vm.guest_prints(&[("cat /var/tmp/bootcmd", "boot"), ("cat /var/tmp/runcmd", "run\nsecond")]);
    vm.exec_ok(&["alice", "true"]);
    ssh(&vm, &private, "debian");
    ssh(&vm, &private, "root");
    has_password(&vm, "debian", "pa ss $w");
    console.send("debian\n");
    console.expect("Password: ");
    console.send("pa ss $w\n");
    console.expect("debian@first-boot");
    let id = "cat /var/lib/cloud/data/instance-id";
    let first = vm.guest_sh(id);
    assert!(first.starts_with("theirs-"), "{first}");

    // A power cut may leave empty host keys; sshd does not start without at least one valid key.
    vm.guest_sh("cd /etc/ssh; for key in ssh_host_*_key; do : > $key; : > $key.pub; done; : > ssh_host_rsa_key");
    assert_eq!(vm.stop(), 0);
    vm.start();
    cloud_init_finishes(&vm);
    vm.guest_prints(&[("cd /etc/ssh; stat -c '%n %a' ssh_host_*; find . -empty -name 'ssh_host_*'", HOST_KEYS)]);
    vm.guest_prints(&[(id, &first), ("cat /var/tmp/bootcmd", "boot\nboot"), ("cat /var/tmp/runcmd", "run\nsecond")]);
    ssh(&vm, &private, "debian");
}

/// Answers every HTTP request with `body` until the tests end; returns the port.
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

/// The interface has the name that guests give it on QEMU's q35 machine.
const NETWORK_CONFIG: &str = "version: 2\nethernets: {enp1s0: {dhcp4: true, addresses: [192.0.2.7/24]}}\n";

/// Compressed multipart user-data, one part of which is fetched by HTTP, and a network configuration, without a name or
/// key of the user.
#[test]
fn cloud_init_applies_every_kind_of_part() {
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
    let (what, seed) = (root.as_root(), dir.path().to_str().unwrap());
    let vm = guest(&what, &["--cloud-init", seed, "--disk-size", "5G"]).detached();
    cloud_init_finishes(&vm);
    vm.guest_prints(&[
        ("cat /var/tmp/script", "script"),
        ("cat /var/tmp/hook", "hook"),
        ("cat /var/tmp/jinja", "first-boot"),
        ("cat /etc/theirs", "fine"),
        ("cat /var/tmp/included", "included"),
        ("ip -o -4 address show enp1s0 | grep -o '192.0.2.7/24\\|10.0.99.2/30' | sort", "10.0.99.2/30\n192.0.2.7/24"),
        ("grep -c . ~debian/.ssh/authorized_keys", "1"),
        ("lsblk -bdno SIZE /dev/vda; df --output=size -BG / | tail -1 | tr -d ' '", "5368709120\n5G"),
    ]);
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
fn ignition_applies_the_users_configuration() {
    let dir = directory();
    let config = write(dir.path(), "config.ign", IGNITION);
    let (private, public) = key(dir.path());
    let root = rootfs(Podman::Rootful, "ignition");
    let what = root.as_root();
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
    vm.guest_prints(&[
        (names, &want),
        ("hostname", "first-boot"),
        ("cat /etc/theirs; stat -c %a /etc/theirs", "theirs\n640"),
        ("cat /var/tmp/boots", "boot"),
        ("cat ~core/.ssh/authorized_keys.d/ignition | cut -d' ' -f3 | sort -u", "crun-qemu\nmine\ntheirs"),
        ("sed -i s/theirs/changed/ /etc/theirs; cat /etc/theirs", "changed"),
    ]);
    vm.exec_ok(&["alice", "true"]);
    has_password(&vm, "core", "pa ss $w");
    ssh(&vm, &private, "core");

    // Ignition writes nothing on the second boot, but the guest knows the container's new network.
    assert_eq!(vm.stop(), 0);
    vm.podman.ok(&["network", "disconnect", &first.1, &vm.name]);
    vm.podman.ok(&["network", "connect", &second.1, &vm.name]);
    vm.start();
    vm.exec_ok(&["core", "systemctl", "is-system-running", "--wait"]);
    let (names, want) = gateway(&second);
    vm.guest_prints(&[(names, &want), ("cat /etc/theirs", "changed"), ("cat /var/tmp/boots", "boot\nboot")]);
}

/// A guest without cloud-init and Ignition: systemd reads root's keys from the SMBIOS tables.
#[test]
fn systemd_guest_gets_roots_keys() {
    let dir = directory();
    let (private, public) = key(dir.path());
    let root = rootfs(Podman::Rootful, "systemd");
    let what = root.as_root();
    let vm = guest(&what, &["--ssh-key", &public]).detached();
    vm.guest_prints(&[("id -u", "0"), ("cut -d' ' -f3 ~/.ssh/authorized_keys | sort -u", "crun-qemu\nmine")]);
    ssh(&vm, &private, "root");
    let argv = vm.container_sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(argv.contains("qemu-system") && !argv.contains("PRIVATE"), "{argv}");
    assert_eq!(vm.exec_ok(&["-", "stat", "-c", "%a", "/crun-qemu/ssh/id"]), "600");
}
