//! Starts that must fail: the error line, and that nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::{Form, Run, Vm, podman_with, run, text};

/// The runtime executable and the plugin.
pub const FORMS: [Form; 2] = [Form::BuildTree, Form::Plugin];

/// Hint about the place of a VM image, `SOLE` in expected lines.
const SOLE: &str = "(the VM image must be the only regular file in / or in /disk/)";

/// Every path below `root` except `/etc`, which podman creates in any root.
fn listing(root: &Path) -> String {
    let printed = ["-path", "*/etc", "-prune", "-o", "-printf", "%P %y %s %T@ %m %U\n"];
    run("find", &[&[root.to_str().unwrap(), "-mindepth", "1"], &printed[..]].concat())
}

/// Runs a VM that must be refused with `line`, in which `ROOT` stands for `root`, and checks that nothing is left
/// behind. The file `hidden` is empty during the run. podman keeps the container, so that its bundle can be inspected.
#[track_caller]
pub fn assert_refused(run: &Run, root: &Path, hidden: Option<&str>, line: &str) {
    let before = listing(root);
    let vm = Vm::new(run.podman);
    let output = podman_run(run, &vm.name, hidden);
    let stderr = text(&output.stderr);
    let want = format!("qemu: {}", line.replace("SOLE", SOLE).replace("ROOT", root.to_str().unwrap()));
    let got = stderr.lines().find_map(|l| Some(&l[l.find("qemu: ")?..])).unwrap_or_default();
    // podman puts the runtime's name in front, and the executable's name ends like the line's prefix.
    let got = got.strip_prefix("qemu: ").filter(|rest| rest.starts_with("qemu: ")).unwrap_or(got);
    assert_eq!(got, want, "{:?}: {stderr}", run.form);
    assert_ne!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(listing(root), before, "the root was changed");
    assert_nothing_left(&vm);
}

/// `podman run -d`: a VM that starts by mistake fails the test at once instead of running forever.
pub fn podman_run(run: &Run, name: &str, hidden: Option<&str>) -> Output {
    let mut args = run.args(name);
    args.insert(1, "-d".into());
    let Some(file) = hidden else { return run.podman.output(&args) };
    podman_with(Path::new("/dev/null"), file).args(args).output().unwrap()
}

/// Error line of a VM that was refused and of which nothing may be left.
#[track_caller]
pub fn refusal(vm: &Vm, output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{stderr}");
    assert_nothing_left(vm);
    stderr.trim_end().rsplit_once(": qemu: ").map(|(_, rest)| rest.to_owned()).expect(&stderr)
}

/// A container that did not start has left no file, mount, process, tap or table.
#[track_caller]
pub fn assert_nothing_left(vm: &Vm) {
    let id = vm.inspect("{{.ID}}");
    let storage = vm.podman.ok(&["info", "--format", "{{.Store.GraphRoot}} {{.Store.GraphDriverName}}"]);
    let (graph, driver) = storage.split_once(' ').unwrap();
    let bundle = Path::new(graph).join(format!("{driver}-containers")).join(&id).join("userdata");
    assert!(bundle.is_dir(), "{}", bundle.display());
    assert!(!bundle.join("crun-qemu").exists(), "{} is left", bundle.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.lines().any(|m| m.contains(&id) && m.contains("crun-qemu")), "{mounts}");
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).map(|b| text(&b)).unwrap_or_default();
        let own = read("cmdline").contains("qemu") && read("cgroup").contains(&id);
        assert!(!own, "a process is left: {}", read("cmdline"));
    }
    let tap = format!("vm-{}", &id[..8]);
    assert!(!Path::new("/sys/class/net").join(&tap).exists(), "{tap} is left");
    assert!(!run("nft", &["list", "tables"]).contains(&tap), "a table is left");
}
