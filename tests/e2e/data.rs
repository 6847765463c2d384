//! A guest's data when its VM is killed: what was fsynced is there at the next start, whatever was killed, on every kind of
//! disk. `CRUN_QEMU_KILLS` says how many times, all kinds together; else each kind once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{Form, PATIENCE, Podman, Run, Vm, directory, guest, rootfs, run, source};
use crate::images::{Image, MOUNTED};
use crate::lifecycle::qemu;
use crate::persistent;

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Qemu,
    Supervisor,
    /// By `podman kill`.
    Container,
    /// With what podman has around it.
    Everything,
}

const VICTIMS: [Victim; 4] = [Victim::Qemu, Victim::Everything, Victim::Container, Victim::Supervisor];

/// In the guest's own file system, and on disks besides.
const OWN: &str = "/disk/records";
const OTHERS: [&str; 2] = ["/dev/vdc", "/dev/vdd"];

/// A VM under test.
struct Victims {
    vm: Vm,
    files: Vec<&'static str>,
    /// How many records are on the disk for sure.
    durable: u64,
}

impl Victims {
    fn new(run: Run, files: &[&'static str]) -> Self {
        let victims = Self { vm: run.detached(), files: files.to_vec(), durable: 0 };
        victims.vm.wait_for("TINY READY", 1);
        let script = format!("{MOUNTED}; cat > /disk/durable && chmod 755 /disk/durable && sync");
        let mut command = victims.vm.exec_command(&["-i"], &["root", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(program()).unwrap();
        assert!(child.wait().unwrap().success());
        victims
    }

    /// The records go on for `time` after the first new ones; then comes the kill.
    fn write_and_kill(&mut self, victim: Victim, time: Duration) {
        let first = self.durable.to_string();
        let args = [&["root", "/disk/durable", "write", &first], &self.files[..]].concat();
        let mut command = self.vm.exec_command(&[], &args);
        let mut writer = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut next = || Some(lines.next()?.ok()?.parse::<u64>().unwrap());
        (0..10).for_each(|_| self.durable = next().expect("the guest writes") + 1);
        let heard = thread::scope(|scope| {
            let rest = scope.spawn(|| std::iter::from_fn(next).last());
            thread::sleep(time);
            self.kill(victim);
            rest.join().unwrap()
        });
        self.durable = heard.map_or(self.durable, |last| last + 1);
        let _ = writer.wait();
    }

    fn kill(&self, victim: Victim) {
        let end = |pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        match victim {
            Victim::Qemu => end(qemu(&self.vm)),
            Victim::Supervisor => end(self.vm.pid()),
            Victim::Container => drop(self.vm.podman.ok(&["kill", "-s", "KILL", &self.vm.name])),
            Victim::Everything => {
                let (id, supervisor) = (self.vm.inspect("{{.Id}}"), self.vm.pid());
                let conmon = self.vm.inspect("{{.State.ConmonPid}}").parse().unwrap();
                let line = fs::read(format!("/proc/{conmon}/cmdline")).unwrap();
                let mut words = line.split(|byte| *byte == 0).skip_while(|word| word != b"--exit-dir");
                let exits = String::from_utf8(words.nth(1).unwrap().to_vec()).unwrap();
                [conmon, supervisor].into_iter().for_each(end);
                let gone = || !Path::new(&format!("/proc/{supervisor}/exe")).exists();
                let deadline = Instant::now() + PATIENCE;
                while !gone() && Instant::now() < deadline {
                    thread::sleep(Duration::from_millis(20));
                }
                // podman believes in the container's end when conmon says so, and in no other case before a reboot.
                fs::write(Path::new(&exits).join(id), "137").unwrap();
            }
        }
    }

    /// A start after a kill; how many times the guest will have been ready.
    fn start(&self, case: &str) -> usize {
        let status = self.vm.wait();
        assert!([1, 137].contains(&status), "{case}: {status}");
        let ready = self.vm.logs().matches("TINY READY").count();
        self.vm.podman.ok(&["start", &self.vm.name]);
        ready + 1
    }

    /// What was durable is there at the next start.
    fn start_and_check(&self, case: &str) {
        let ready = self.start(case);
        self.vm.wait_for("TINY READY", ready);
        let script = format!("{MOUNTED}; exec /disk/durable check {} {}", self.durable, self.files.join(" "));
        let output = self.vm.exec(&["root", "sh", "-c", &script]);
        let said = crate::harness::text(&output.stdout) + &crate::harness::text(&output.stderr);
        assert!(output.status.success(), "{case}: {said}");
        eprintln!("{case}: {} durable, {} there", self.durable, said.trim());
    }
}

/// The program that writes and checks, for any guest.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let (dir, from) = (directory(), source("tests/e2e/durable.c"));
        let to = dir.path().join("durable");
        run("cc", &["-static", "-O", "-Wall", "-Werror", "-o", to.to_str().unwrap(), from.to_str().unwrap()]);
        fs::read(to).unwrap()
    })
}

/// How many times a kind's VM is killed.
fn kills() -> usize {
    std::env::var("CRUN_QEMU_KILLS").map_or(1, |text| text.parse::<usize>().unwrap().div_ceil(4))
}

/// Kills the VM again and again; `kind` is a number of its own.
fn survives(run: Run, files: &[&'static str], kind: usize) {
    let mut victims = Victims::new(run, files);
    for n in 0..kills() {
        let victim = VICTIMS[(kind + n) % VICTIMS.len()];
        let (moment, later) = (moment(), moment());
        let mut case = format!("{n}: {victim:?} {moment:?} after the first records in {files:?}");
        victims.write_and_kill(victim, moment);
        if n % 2 == 1 {
            // Again, while the guest boots and mends its file system.
            victims.start(&case);
            thread::sleep(later);
            victims.kill(Victim::Supervisor);
            case += &format!(", and {later:?} after the start");
        }
        victims.start_and_check(&case);
    }
    assert_eq!(victims.vm.stop(), 0);
}

/// Any time up to what a boot takes.
fn moment() -> Duration {
    let mut bytes = [0; 2];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    Duration::from_millis(u64::from(u16::from_ne_bytes(bytes)) % 4000)
}

/// Clusters that are lost to everybody cost room, and nothing else; anything more is damage.
fn is_sound(image: &Path) {
    let output = Command::new("qemu-img").args(["check", "-U", "-f", "qcow2"]).arg(image).output().unwrap();
    let leaks_at_most = [Some(0), Some(3)].contains(&output.status.code());
    assert!(leaks_at_most, "{}: {}", image.display(), crate::harness::text(&output.stdout));
}

/// Disks besides, one of each format; their clusters are made while the records are written.
fn more_disks() -> (TempDir, [String; 2]) {
    let dir = directory();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for (name, format) in [("a", "qcow2"), ("b", "raw")] {
        run("qemu-img", &["create", "-q", "-f", format, &path(name), "1G"]);
    }
    let volumes = ["a", "b"].map(|name| format!("{}:/{name}", path(name)));
    (dir, volumes)
}

#[test]
fn in_a_container_images_layer_and_on_other_disks() {
    let image = Image::packaged(Podman::Rootful, &guest("tiny"));
    let (more, volumes) = more_disks();
    let podman_options = ["-v", &volumes[0], "-v", &volumes[1]];
    let blockdevs = ["source=/a,target=/dev/a,format=qcow2", "source=/b,target=/dev/b,format=raw"];
    let options = ["--blockdev", blockdevs[0], "--blockdev", blockdevs[1]];
    let (form, what) = (Form::BuildTree, [image.tag.as_str()]);
    let run = Run { podman: Podman::Rootful, form, podman_options: &podman_options, what: &what, options: &options };
    survives(run, &[OWN, OTHERS[0], OTHERS[1]], 0);
    is_sound(&more.path().join("a"));
}

#[test]
fn in_the_bundle() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = ["--rootfs", root.path().to_str().unwrap()];
    let (podman, form) = (Podman::Rootful, Form::BuildTree);
    survives(Run { podman, form, podman_options: &[], what: &what, options: &[] }, &[OWN], 1);
}

#[test]
fn in_the_image_itself() {
    for (kind, format) in [(2, "qcow2"), (3, "raw")] {
        let root = persistent::root(Podman::Rootful, format);
        let what = ["--rootfs", root.path().to_str().unwrap()];
        let options = ["--persistent", "--format", format];
        let (podman, form) = (Podman::Rootful, Form::BuildTree);
        survives(Run { podman, form, podman_options: &[], what: &what, options: &options }, &[OWN], kind);
        if format == "qcow2" {
            is_sound(&root.path().join("disk.img"));
        }
    }
}
