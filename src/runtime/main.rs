//! The OCI runtime executable: crun's command line, with a VM in place of the container's process.

mod command_line;
mod doctor;
mod image;
mod kill;
mod pause;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use command_line::CommandLine;
use crun_qemu::edits::json;
use crun_qemu::engine;
use crun_qemu::error::{self, Context, Error, Result};
use crun_qemu::handoff::paths;
use crun_qemu::prepare;
use crun_qemu::request::{Bundle, options};
use crun_qemu::update;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use serde_json::Value;

/// Paths of crun, tried before `$PATH`: engines call runtimes with an empty environment.
const CRUN: &[&str] = &["/usr/bin/crun", "/usr/local/bin/crun", "/bin/crun"];

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let line = CommandLine::parse(&words);
    let command = line.command.map(|index| words[index].to_string_lossy().into_owned());
    let done = match command.as_deref() {
        Some("network") if words.len() == 1 => network_hook(),
        Some("doctor") => doctor(&words[1..]),
        Some("image") if line.command == Some(0) => image::run(&words[1..]),
        Some("options") if words.len() == 1 => {
            print!("{}", options::help());
            Ok(())
        }
        None if words == ["--help"] => {
            println!("crun-qemu: an OCI runtime that runs VM disk images; see crun-qemu(1).\n");
            println!("  crun-qemu options    lists the options that follow an image in podman run");
            println!("  crun-qemu doctor     says what this host has and lacks; --json for programs");
            println!(
                "  crun-qemu image      checks VM images, makes container images of them and takes them out; --help\n"
            );
            println!("Options that follow an image and the empty argument after it:\n{}", options::help());
            println!("All other commands and options are crun's own:\n");
            // crun adds its part to the same stream.
            std::io::stdout().flush().context("stdout").and_then(|()| hand_over(words.iter()))
        }
        Some("create" | "run") => create(&words, &line),
        Some("exec") => exec(&words, &line),
        Some("kill") => {
            if let Some(id) = line.id {
                kill::wait_for_listener(line.root.as_deref(), &words[id].to_string_lossy());
            }
            hand_over(words.iter())
        }
        Some("update") => update(&words, &line),
        _ => hand_over(words.iter()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            report(&line, &e);
            ExitCode::FAILURE
        }
    }
}

fn doctor(options: &[OsString]) -> Result<()> {
    let options: Vec<_> = options.iter().map(|option| option.to_string_lossy()).collect();
    let json = match options.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..] {
        [] => false,
        ["--json"] => true,
        [doctor::TRY_NETWORK] => return doctor::try_network(),
        _ => return Err(Error::new("doctor", format!("\"{}\" is unknown", options.join(" "))).hint("doctor [--json]")),
    };
    let exe = std::env::current_exe().context("/proc/self/exe")?;
    doctor::run(json, crun().as_deref().ok(), &supervisor(&exe))
}

/// Reports a failure where the engine looks for the reason: in the log that it named, else on stderr.
fn report(line: &CommandLine, reason: impl Display) {
    let said = error::line(reason);
    let text =
        if line.json_log { serde_json::json!({"msg": said, "level": "error"}).to_string() } else { said.to_string() };
    let log = line.log.as_ref().and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok());
    if log.is_none_or(|mut log| writeln!(log, "{text}").is_err()) {
        eprintln!("{said}");
    }
}

fn create(words: &[OsString], line: &CommandLine) -> Result<()> {
    let (Some(command), Some(id)) = (line.command, line.id) else { return hand_over(words.iter()) };
    let cwd = std::env::current_dir().context("working directory")?;
    let path = cwd.join(line.bundle.as_deref().unwrap_or(Path::new(".")));
    let original = path.join(line.config.as_deref().unwrap_or(Path::new("config.json")));
    let text = fs::read_to_string(&original).context(original.display())?;
    let mut config: Value = serde_json::from_str(&text).context(original.display())?;
    let root = path.join(config["root"]["path"].as_str().unwrap_or_default());
    // Malformed annotations are refused with the rest of the configuration.
    let annotations: engine::Annotations = serde_json::from_value(config["annotations"].clone()).unwrap_or_default();
    if engine::is_pod_sandbox(&annotations) || pause::is_pause(&config, &root) {
        return hand_over(words.iter());
    }
    if line.config.is_some() {
        return Err(Error::new("--config", "the configuration of a VM is its bundle's own"));
    }
    let exe = std::env::current_exe().context("/proc/self/exe")?;
    let bundle = Bundle { path, config: text };
    let edits = prepare::create(&bundle, &words[id].to_string_lossy(), &supervisor(&exe))?;
    json::apply(&mut config, &edits, &exe)?;
    let edited = prepare::write_config(&bundle.path, &serde_json::to_vec(&config).context("config.json")?)?;
    let (before, after) = words.split_at(command + 1);
    let config = [OsStr::new("--config"), edited.as_os_str()];
    let words = before.iter().map(AsRef::as_ref).chain(config).chain(after.iter().map(OsString::as_os_str));
    if words_are_of_create(before) { outlive(words, line, &bundle.path) } else { hand_over(words) }
}

fn words_are_of_create(words: &[OsString]) -> bool {
    words.last().is_some_and(|command| command == "create")
}

/// Runs crun to its end. crun reports only that a hook has failed, so the reason replaces crun's message.
fn outlive<'a>(words: impl Iterator<Item = &'a OsStr>, line: &CommandLine, bundle: &Path) -> Result<()> {
    let status = Command::new(crun()?).args(words).status().map_err(|e| no_crun(&e))?;
    if status.success() {
        return Ok(());
    }
    if let Some(reason) = prepare::network_failure(bundle) {
        let _ = line.log.as_ref().map(fs::File::create);
        report(line, &reason);
    }
    std::process::exit(status.code().unwrap_or(1))
}

/// Beside this executable in a build tree, else where it is installed.
fn supervisor(exe: &Path) -> PathBuf {
    let beside = exe.with_file_name("crun-qemu-init");
    if beside.exists() { beside } else { prepare::installed_init() }
}

fn exec(words: &[OsString], line: &CommandLine) -> Result<()> {
    let Some(id) = line.id else { return hand_over(words.iter()) };
    let Some((path, index)) = &line.process else {
        let (before, after) = words.split_at(id + 1);
        let init = [OsStr::new(paths::INIT), OsStr::new("exec"), OsStr::new("--")];
        return hand_over(before.iter().map(AsRef::as_ref).chain(init).chain(after.iter().map(OsString::as_os_str)));
    };
    let text = fs::read_to_string(path).context(path.display())?;
    let mut process: Value = serde_json::from_str(&text).context(path.display())?;
    json::apply_exec(&mut process)?;
    hand_over_with(words, *index, &process)
}

fn update(words: &[OsString], line: &CommandLine) -> Result<()> {
    let Some(id) = line.id else { return hand_over(words.iter()) };
    let id = words[id].to_string_lossy();
    let mut resources = serde_json::json!({});
    if let Some((path, _)) = &line.resources {
        let text = match path.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin()),
            _ => fs::read_to_string(path),
        };
        resources = serde_json::from_str(&text.context(path.display())?).context(path.display())?;
    } else if line.memory {
        update::by_options(line.root.as_deref(), &id)?;
    }
    update::in_json(line.root.as_deref(), &id, &mut resources)?;
    match line.resources {
        Some((_, index)) => hand_over_with(words, index, &resources),
        None => hand_over(words.iter()),
    }
}

/// Hands over to crun with `value` in place of the file that the word at `index` names.
fn hand_over_with(words: &[OsString], index: usize, value: &Value) -> Result<()> {
    let mut file = fs::File::from(memfd_create("crun-qemu", MFdFlags::empty()).context("memfd")?);
    file.write_all(value.to_string().as_bytes()).and_then(|()| file.rewind()).context("memfd")?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).context("memfd")?;
    let mut words = words.to_vec();
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let option = words[index].to_string_lossy().split_once('=').map(|(option, _)| option.to_string());
    words[index] = option.filter(|o| o.starts_with("--")).map_or(name.clone(), |o| format!("{o}={name}")).into();
    hand_over(words.iter())
}

/// Called by crun in the container's namespaces, with the container's state on stdin.
fn network_hook() -> Result<()> {
    let mut state = String::new();
    std::io::stdin().read_to_string(&mut state).context("hook")?;
    let state: Value = serde_json::from_str(&state).context("hook")?;
    let bundle = state["bundle"].as_str().ok_or_else(|| Error::new("hook", "the state names no bundle"))?;
    // crun's child that runs the hooks is the one that becomes the supervisor.
    prepare::network_or_note(Path::new(bundle), Pid::parent())
}

fn hand_over(words: impl Iterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    Err(no_crun(&Command::new(crun()?).args(words).exec()))
}

fn no_crun(error: &std::io::Error) -> Error {
    Error::new("crun", error.to_string()).hint("install the package crun")
}

fn crun() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("crun"));
    let found = CRUN.iter().map(PathBuf::from).chain(in_path).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::new("crun", format!("none of {} is there", CRUN.join(", "))).hint("install the package crun")
    })
}
