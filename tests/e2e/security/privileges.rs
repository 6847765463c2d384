//! Rights of each process of a VM, as docs/security.md describes them, and attempts of an escaped QEMU, none of which
//! succeeds.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{Dir, Form, Podman, Run, Vm, container, directory, rootfs, text};

/// A VM with a directory, a file and a disk image of the host.
struct Subject {
    vm: Vm,
    dir: Dir,
    _root: Dir,
}

impl Subject {
    fn new(podman: Podman, form: Form, podman_options: &[&str], options: &[&str]) -> Self {
        let (dir, root) = (directory(), rootfs(podman, "tiny"));
        let path = |name: &str| dir.join(name);
        fs::create_dir(path("shared")).unwrap();
        for name in ["shared/file", "single"] {
            fs::write(path(name), "from the host\n").unwrap();
        }
        fs::File::create(path("disk")).unwrap().set_len(1 << 20).unwrap();
        podman.own(dir.path());
        let volumes = [("shared", "/srv"), ("single", "/etc/single"), ("disk", "/disk.img")];
        let volumes = volumes.map(|(name, at)| format!("{}:{at}", path(name).display()));
        let capabilities = ["--cap-drop", "all", "--cap-add", CAPABILITIES];
        let podman_options = capabilities.iter().chain(podman_options).copied();
        let podman_options: Vec<&str> =
            volumes.iter().flat_map(|volume| ["-v", volume]).chain(podman_options).collect();
        let blockdev = ["--blockdev", "source=/disk.img,target=/dev/more,format=raw"];
        let options: Vec<&str> = blockdev.iter().chain(options).copied().collect();
        let what = root.as_root();
        let vm = Run { podman, form, podman_options: &podman_options, what: &what, options: &options }.detached();
        vm.wait_for("TINY READY", 1);
        Self { vm, dir, _root: root }
    }

    /// Names and host process ids of the container's processes.
    fn processes(&self) -> Vec<(String, i32)> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let inside = namespace(&self.vm.pid().to_string());
        assert!(inside.is_some() && inside != namespace("self"));
        let pids = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        let pids = pids.filter(|pid| namespace(pid) == inside).map(|pid| pid.parse().unwrap());
        let mut all: Vec<(String, i32)> = pids.map(|pid| (field(pid, "Name"), pid)).collect();
        all.sort();
        all
    }

    fn qemu(&self) -> i32 {
        self.processes().iter().find(|(name, _)| name.starts_with("qemu-system")).expect("no QEMU").1
    }

    /// Runs a script in QEMU's namespaces with QEMU's rights, but without QEMU's seccomp filter.
    fn as_qemu(&self, script: &str) -> Output {
        let qemu = self.qemu();
        let (uid, gid) = (one(&field(qemu, "Uid")), one(&field(qemu, "Gid")));
        let groups = field(qemu, "Groups").replace(' ', ",");
        let mut command = Command::new("nsenter");
        command.args(["-t", &qemu.to_string(), "-m", "-n", "-p", "-i", "-u", "setpriv", "--no-new-privs"]);
        command.args(["--reuid", &uid, "--regid", &gid]);
        let groups = ["--groups", &groups];
        command.args(if groups[1].is_empty() { &["--clear-groups"][..] } else { &groups });
        command.args(["--inh-caps=-all", "--bounding-set=-all", "sh", "-c", script]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin").stdin(Stdio::null()).output().unwrap()
    }
}

/// A field of a process's status; its values are separated by single spaces.
fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The common value of the four ids: real, effective, saved, and file system.
fn one(values: &str) -> String {
    let values: Vec<_> = values.split(' ').collect();
    assert!(values.len() == 4 && values.iter().all(|value| *value == values[0]), "{values:?}");
    values[0].to_owned()
}

/// The container's capabilities: podman 5's default.
const CAPABILITIES: &str =
    "chown,dac_override,fowner,fsetid,kill,net_bind_service,setfcap,setgid,setpcap,setuid,sys_chroot";
const CONTAINER_CAPS: u64 = 0x8004_05fb;
/// Capabilities of virtiofsd: those for files, and for the C version those to change its user.
const VIRTIOFSD_CAPS: u64 = 0x8000_00db;

/// A line for each process: user, group, capabilities (permitted, effective, ambient, bounding), no_new_privs, seccomp.
fn table(subject: &Subject) -> String {
    let line = |(name, pid): &(String, i32)| {
        let bits = |set| u64::from_str_radix(&field(*pid, set), 16).unwrap();
        let caps = ["CapPrm", "CapEff", "CapAmb", "CapBnd"].map(bits);
        let caps = match name.as_str() {
            // The set differs between virtiofsd's versions.
            "virtiofsd" if caps[..3].iter().all(|bits| bits & !VIRTIOFSD_CAPS == 0) => "few".to_owned(),
            _ => caps.map(|bits| format!("{bits:x}")).join(" "),
        };
        let (nnp, seccomp) = (field(*pid, "NoNewPrivs"), field(*pid, "Seccomp"));
        let ids = format!("{} {}", one(&field(*pid, "Uid")), one(&field(*pid, "Gid")));
        format!("{name} {ids} {caps} {nnp} {seccomp}\n")
    };
    subject.processes().iter().map(line).collect()
}

#[test]
fn processes_have_the_documented_rights() {
    let subject = Subject::new(Podman::Rootful, Form::Plugin, &[], &[]);
    let (uid, gid) = (one(&field(subject.qemu(), "Uid")), one(&field(subject.qemu(), "Gid")));
    // Ids that hosts do not use, not even for containers.
    let unused = 0x7000_0000..0x7ffd_0000;
    assert!(unused.contains(&uid.parse().unwrap()) && unused.contains(&gid.parse().unwrap()), "{uid} {gid}");
    let want = format!(
        "crun-qemu-init 0 0 {CONTAINER_CAPS:x} {CONTAINER_CAPS:x} 0 {CONTAINER_CAPS:x} 1 2\n\
         qemu-system-x86 {uid} {gid} 0 0 0 0 1 2\nvirtiofsd 0 0 few 1 2\nvirtiofsd 0 0 few 1 2\n"
    );
    assert_eq!(table(&subject), want);
    assert_eq!(field(subject.qemu(), "Groups"), gid);
    qemu_writes_the_documented_files_only(&subject);

    // After a restart QEMU has the same user, who owns its files.
    assert_eq!(subject.vm.stop(), 0);
    subject.vm.podman.ok(&["start", &subject.vm.name]);
    subject.vm.wait_for("TINY READY", 2);
    assert_eq!(table(&subject), want);
}

/// All files of the container that QEMU's user may write by name; QEMU has its disks open. virtiofsd's sockets are in
/// directories that the user cannot list.
fn qemu_writes_the_documented_files_only(subject: &Subject) {
    let script = "find / \\( -path /proc -o -path /sys/fs/cgroup \\) -prune -o ! -type l -writable -print | sort";
    let found = text(&subject.as_qemu(script).stdout).replace(&subject.vm.inspect("{{.Id}}")[..12], "NAME");
    let want = "/dev/full\n/dev/net/tun\n/dev/null\n/dev/pts/ptmx\n/dev/random\n/dev/tty\n/dev/urandom\n/dev/zero\n\
                /run/console.sock\n\
                /run/v/lib/qemu\n/run/v/lib/qemu/channel\n/run/v/lib/qemu/channel/target\n\
                /run/v/lib/qemu/channel/target/domain-1-NAME\n/run/v/lib/qemu/checkpoint\n\
                /run/v/lib/qemu/domain-1-NAME\n/run/v/lib/qemu/domain-1-NAME/master-key.aes\n\
                /run/v/lib/qemu/dump\n/run/v/lib/qemu/nvram\n\
                /run/v/lib/qemu/ram\n/run/v/lib/qemu/ram/1-NAME\n/run/v/lib/qemu/save\n/run/v/lib/qemu/snapshot\n\
                /run/v/run/qemu/dbus\n/run/v/run/qemu/passt\n/run/v/run/qemu/slirp\n";
    assert_eq!(found, want);
    let mountinfo = fs::read_to_string(format!("/proc/{}/mountinfo", subject.qemu())).unwrap();
    let words = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // The engine decides whether cgroups are writable.
    let writable = words.filter(|w| w[5].split(',').any(|o| o == "rw") && !w[4].starts_with("/sys/fs/cgroup"));
    let mut writable: Vec<_> = writable.map(|w| w[4].to_owned()).collect();
    writable.sort();
    let want = [
        "/crun-qemu/mounts/disk-0",
        "/crun-qemu/mounts/files/0",
        "/crun-qemu/mounts/share-0",
        "/crun-qemu/overlay.qcow2",
        "/dev",
        "/dev/net/tun",
        "/dev/pts",
        "/proc",
        "/run",
        "/run/v/log",
        "/tmp",
    ];
    assert_eq!(writable, want);
    // The same search as root finds the protected files.
    let roots = text(&subject.vm.exec(&["-", "sh", "-c", script]).stdout);
    for path in
        ["/crun-qemu/overlay.qcow2", "/crun-qemu/mounts/share-0/file", "/crun-qemu/mounts/files/0", "/run/alive"]
    {
        assert!(roots.lines().any(|line| line == path) && !found.contains(path), "{path}: {roots}");
    }
}

#[test]
fn processes_have_the_documented_rights_rootless() {
    let subject = Subject::new(Podman::Rootless, Form::BuildTree, &[], &[]);
    let ids = |pid| (one(&field(pid, "Uid")), one(&field(pid, "Gid")));
    let (first, qemu) = (ids(subject.vm.pid()), ids(subject.qemu()));
    assert!(first.0 != "0" && qemu.0 != "0" && qemu.0 != first.0 && qemu.1 != first.1, "{first:?} {qemu:?}");
    let lines = table(&subject);
    assert!(lines.contains(&format!("qemu-system-x86 {} {} 0 0 0 0 1 2\n", qemu.0, qemu.1)), "{lines}");
}

/// QEMU must be root to bind such a port, with few capabilities.
#[test]
fn privileged_port_adds_few_rights() {
    let subject = Subject::new(Podman::Rootful, Form::BuildTree, &["--network", "host"], &["--port", "7/udp"]);
    // setgid, setuid and setpcap, whose calls QEMU's seccomp filter denies, and net_bind_service.
    let lines = table(&subject);
    assert!(lines.contains(&format!("qemu-system-x86 0 0 5c0 5c0 0 {CONTAINER_CAPS:x} 1 2\n")), "{lines}");
}

/// Attempts of an escaped QEMU, as shell scripts. Each succeeds as the container's root.
const ATTEMPTS: &[(&str, &str)] = &[
    ("read a shared directory", "cat /crun-qemu/mounts/share-0/file"),
    ("write to it", "echo escaped > /crun-qemu/mounts/share-0/file"),
    ("read a single file", "cat /crun-qemu/mounts/files/0"),
    ("write to it", "echo escaped > /crun-qemu/mounts/files/0"),
    ("open a disk by its name", ": 3<>/crun-qemu/mounts/disk-0"),
    ("open its own disk by its name", ": 3<>/crun-qemu/overlay.qcow2"),
    ("read the guest's key", "cat /crun-qemu/ssh/id"),
    ("read the supervisor's configuration", "cat /crun-qemu/supervisor.json"),
    ("read the seed by its name", "cat /crun-qemu/seed.img"),
    ("wait for the VM in the supervisor's place", ": < /run/alive"),
    ("leave a mark", "echo '{}' > /run/status.new"),
    ("leave something in the container's root", ": > /run/x"),
    ("end the supervisor", "kill -0 1"),
    ("inspect the supervisor", "readlink /proc/1/exe && ls /proc/1/fd"),
    ("end virtiofsd", "for p in $(pidof virtiofsd); do kill -0 $p || exit; done"),
    ("inspect virtiofsd", "for p in $(pidof virtiofsd); do readlink /proc/$p/cwd || exit; done"),
    ("read libvirt's configuration", "cat /run/v/etc/qemu/*.xml"),
];

#[test]
fn escaped_qemu_reaches_nothing() {
    let podman = Podman::Rootful;
    let (peer, _root) = container(podman, &[]);
    let network = format!("container:{}", peer.name);
    let subject = Subject::new(podman, Form::Plugin, &["--network", &network], &[]);
    let neighbour = Subject::new(podman, Form::BuildTree, &["--network", &network], &[]);
    let root = |script: &str| subject.vm.exec(&["-", "sh", "-c", script]);
    for (what, script) in ATTEMPTS {
        let output = subject.as_qemu(script);
        assert_ne!(output.status.code(), Some(0), "QEMU could {what}: {}", text(&output.stdout));
        assert!(!text(&output.stderr).contains("not found"), "{what}: {}", text(&output.stderr));
        let output = root(script);
        assert_eq!(output.status.code(), Some(0), "not even root could {what}: {}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(subject.dir.join("shared/file")).unwrap(), "escaped\n");
    // Another VM's network card: opening a tap again adds a queue, which is all that this command does, since the tap
    // is not persistent.
    for vm in [&subject.vm, &neighbour.vm] {
        let id = vm.inspect("{{.Id}}");
        let tap = format!("ip tuntap del dev vm-{} mode tap multi_queue vnet_hdr", &id[..8]);
        let output = subject.as_qemu(&tap);
        assert!(text(&output.stderr).contains("Operation not permitted"), "{}", text(&output.stderr));
        let output = root(&tap);
        assert_eq!(output.status.code(), Some(0), "{tap}: {}", text(&output.stderr));
    }
}

/// The host reads these files again at the next start.
#[test]
fn engine_files_are_read_only() {
    let subject = Subject::new(Podman::Rootful, Form::Plugin, &[], &[]);
    let (ordinary, _root) = container(Podman::Rootful, &[]);
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"] {
        let script = format!("echo '#' >> {file}");
        let output = subject.vm.exec(&["-", "sh", "-c", &script]);
        assert!(text(&output.stderr).contains("Read-only file system"), "{file}: {}", text(&output.stderr));
        let output = ordinary.exec(&["/busybox", "sh", "-c", &script]);
        assert!(output.status.success(), "{file}: {}", text(&output.stderr));
    }
    assert!(Path::new(&subject.vm.inspect("{{.HostsPath}}")).exists());
}
