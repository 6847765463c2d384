//! `podman run`.

use super::{Console, Dir, Form, LABEL, Podman, Vm, rootfs, text};

/// `podman run`: podman's own options, what to run, and the VM's options.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub podman: Podman,
    pub form: Form,
    pub podman_options: &'a [&'a str],
    /// `--rootfs DIR` or an image.
    pub what: &'a [&'a str],
    pub options: &'a [&'a str],
}

impl Run<'_> {
    /// podman's arguments for a container called `name`.
    pub fn args(&self, name: &str) -> Vec<String> {
        let mut args: Vec<String> = ["run", "--name", name, "--label", LABEL].map(str::to_string).to_vec();
        args.extend(self.form.options());
        let words = self.podman_options.iter().chain(self.what).chain(&["", "--emulated"]).chain(self.options);
        args.extend(words.map(ToString::to_string));
        args
    }

    /// The container's handle, and the arguments of `podman run FLAG`.
    fn named(&self, flag: &str) -> (Vm, Vec<String>) {
        let vm = Vm::new(self.podman);
        let mut args = self.args(&vm.name);
        args.insert(1, flag.into());
        (vm, args)
    }

    /// `podman run -d`, which must succeed.
    #[track_caller]
    pub fn detached(&self) -> Vm {
        let (vm, args) = self.named("-d");
        self.podman.ok(&args);
        vm
    }

    /// `podman run --rm` of something that ends at once: the status and stderr.
    pub fn foreground(&self) -> (Option<i32>, String) {
        let (_vm, args) = self.named("--rm");
        let output = self.podman.output(&args);
        (output.status.code(), text(&output.stderr))
    }

    /// `podman run --rm`, which must fail and print `line`.
    #[track_caller]
    pub fn fails_with(&self, line: &str) {
        let (status, message) = self.foreground();
        assert!(status != Some(0) && message.contains(line), "{status:?} {message}");
    }

    /// `podman run` in the foreground, on a terminal (`tty`) or on pipes.
    pub fn attached(&self, tty: bool) -> (Vm, Console) {
        let (vm, args) = self.named(if tty { "-it" } else { "-i" });
        let mut command = self.podman.command();
        command.args(&args);
        let console = if tty { Console::on_terminal(command) } else { Console::on_pipes(command) };
        (vm, console)
    }
}

/// A run without VM options but `--emulated`.
pub fn tiny<'a>(podman: Podman, form: Form, what: &'a [&'a str], podman_options: &'a [&'a str]) -> Run<'a> {
    Run { podman, form, podman_options, what, options: &[] }
}

/// Starts the tiny guest in the background; returns it and its root.
#[track_caller]
pub fn start(podman: Podman, form: Form, podman_options: &[&str], options: &[&str]) -> (Vm, Dir) {
    let root = rootfs(podman, "tiny");
    let vm = Run { podman, form, podman_options, what: &root.as_root(), options }.detached();
    (vm, root)
}
