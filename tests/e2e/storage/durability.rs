//! Data of a guest whose VM is killed: what was fsynced is there at the next start, whatever was killed, on every kind
//! of disk. `CRUN_QEMU_KILLS` sets the number of kills for all kinds together; the default is one for each kind.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{
    Dir, Form, Image, MOUNTED, PATIENCE, Podman, Run, Vm, directory, guest, kill_process, qemu, rootfs, run,
    static_program, text,
};

/// Process to kill.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Qemu,
    Supervisor,
    /// The container's process, by `podman kill`.
    Container,
    /// The supervisor and conmon.
    Everything,
}

const VICTIMS: [Victim; 4] = [Victim::Qemu, Victim::Everything, Victim::Container, Victim::Supervisor];

/// File in the guest's file system, and further disks.
const OWN: &str = "/disk/records";
const OTHERS: [&str; 2] = ["/dev/vdc", "/dev/vdd"];

/// A VM that is killed again and again.
struct Writer {
    vm: Vm,
    files: Vec<&'static str>,
    /// Number of records that the guest has fsynced.
    durable: u64,
}

impl Writer {
    fn new(run: Run, files: &[&'static str]) -> Self {
        let writer = Self { vm: run.detached(), files: files.to_vec(), durable: 0 };
        writer.vm.wait_for("TINY READY", 1);
        let script = format!("{MOUNTED}; cat > /disk/durable && chmod 755 /disk/durable && sync");
        let mut command = writer.vm.exec_command(&["-i"], &["root", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(program()).unwrap();
        assert!(child.wait().unwrap().success());
        writer
    }

    /// Lets the guest write for `time` after the first new records, then kills the victim.
    fn write_and_kill(&mut self, victim: Victim, time: Duration) {
        let first = self.durable.to_string();
        let args = [&["root", "/disk/durable", "write", &first], &self.files[..]].concat();
        let mut command = self.vm.exec_command(&[], &args);
        let mut writer = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut next = || Some(lines.next()?.ok()?.parse::<u64>().unwrap());
        (0..10).for_each(|_| self.durable = next().expect("the guest writes") + 1);
        let last = thread::scope(|scope| {
            let rest = scope.spawn(|| std::iter::from_fn(next).last());
            thread::sleep(time);
            self.kill(victim);
            rest.join().unwrap()
        });
        self.durable = last.map_or(self.durable, |last| last + 1);
        let _ = writer.wait();
    }

    fn kill(&self, victim: Victim) {
        let end = |pid| kill_process(pid, Signal::SIGKILL);
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
                // Until the next boot podman learns of a container's end only from conmon's file.
                fs::write(Path::new(&exits).join(id), "137").unwrap();
            }
        }
    }

    /// Starts the VM after a kill; returns how many times the guest will have reported that it is ready.
    fn start(&self, case: &str) -> usize {
        let status = self.vm.wait();
        assert!([1, 137].contains(&status), "{case}: {status}");
        let ready = self.vm.logs().matches("TINY READY").count();
        self.vm.podman.ok(&["start", &self.vm.name]);
        ready + 1
    }

    /// Starts the VM after a kill and checks that all fsynced records are there.
    fn start_and_check(&self, case: &str) {
        let ready = self.start(case);
        self.vm.wait_for("TINY READY", ready);
        let script = format!("{MOUNTED}; exec /disk/durable check {} {}", self.durable, self.files.join(" "));
        let output = self.vm.exec(&["root", "sh", "-c", &script]);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{case}: {printed}");
        eprintln!("{case}: {} durable, {} there", self.durable, printed.trim());
    }
}

/// The program that writes and checks the records.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| static_program("tests/e2e/storage/durable.c"))
}

/// Number of kills for one kind of disk.
fn kills() -> usize {
    std::env::var("CRUN_QEMU_KILLS").map_or(1, |text| text.parse::<usize>().unwrap().div_ceil(4))
}

/// Kills the VM again and again; `kind` selects the first victim.
fn survives(run: Run, files: &[&'static str], kind: usize) {
    let mut writer = Writer::new(run, files);
    for n in 0..kills() {
        let victim = VICTIMS[(kind + n) % VICTIMS.len()];
        let (moment, later) = (moment(), moment());
        let mut case = format!("{n}: {victim:?} {moment:?} after the first records in {files:?}");
        writer.write_and_kill(victim, moment);
        if n % 2 == 1 {
            // Once more while the guest boots and repairs its file system.
            writer.start(&case);
            thread::sleep(later);
            writer.kill(Victim::Supervisor);
            case += &format!(", and {later:?} after the start");
        }
        writer.start_and_check(&case);
    }
    assert_eq!(writer.vm.stop(), 0);
}

/// A random time up to the duration of a boot.
fn moment() -> Duration {
    let mut bytes = [0; 2];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    Duration::from_millis(u64::from(u16::from_ne_bytes(bytes)) % 4000)
}

/// Leaked clusters only waste space; any other error is damage.
fn is_sound(image: &Path) {
    let output = Command::new("qemu-img").args(["check", "-U", "-f", "qcow2"]).arg(image).output().unwrap();
    let leaks_at_most = [Some(0), Some(3)].contains(&output.status.code());
    assert!(leaks_at_most, "{}: {}", image.display(), text(&output.stdout));
}

/// One more disk of each format, sparse, so that writing the records allocates clusters.
fn more_disks() -> (Dir, [String; 2]) {
    let dir = directory();
    for (name, format) in [("a", "qcow2"), ("b", "raw")] {
        run("qemu-img", &["create", "-q", "-f", format, &dir.at(name), "1G"]);
    }
    let volumes = ["a", "b"].map(|name| format!("{}:/{name}", dir.at(name)));
    (dir, volumes)
}

#[test]
fn fsynced_data_survives_in_a_layer_and_on_other_disks() {
    let image = Image::packaged(Podman::Rootful, &guest("tiny"));
    let (more, volumes) = more_disks();
    let podman_options = ["-v", &volumes[0], "-v", &volumes[1]];
    let blockdevs = ["source=/a,target=/dev/a,format=qcow2", "source=/b,target=/dev/b,format=raw"];
    let options = ["--blockdev", blockdevs[0], "--blockdev", blockdevs[1]];
    let (form, what) = (Form::BuildTree, [image.tag.as_str()]);
    let run = Run { podman: Podman::Rootful, form, podman_options: &podman_options, what: &what, options: &options };
    survives(run, &[OWN, OTHERS[0], OTHERS[1]], 0);
    is_sound(&more.join("a"));
}

#[test]
fn fsynced_data_survives_in_the_bundle() {
    let root = rootfs(Podman::Rootful, "tiny");
    let what = root.as_root();
    let (podman, form) = (Podman::Rootful, Form::BuildTree);
    survives(Run { podman, form, podman_options: &[], what: &what, options: &[] }, &[OWN], 1);
}

#[test]
fn fsynced_data_survives_in_a_persistent_image() {
    for (kind, format) in [(2, "qcow2"), (3, "raw")] {
        let root = super::persistent::root(Podman::Rootful, format);
        let what = root.as_root();
        let options = ["--persistent", "--format", format];
        let (podman, form) = (Podman::Rootful, Form::BuildTree);
        survives(Run { podman, form, podman_options: &[], what: &what, options: &options }, &[OWN], kind);
        if format == "qcow2" {
            is_sound(&root.join("disk.img"));
        }
    }
}
