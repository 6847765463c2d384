//! `crun-qemu doctor`: what this host has and lacks, and what to do about it.

mod checks;
mod network;

use std::path::Path;

use crun_qemu::error::{Context, Error, Result};
use serde::Serialize;

pub use network::{OPTION as TRY_NETWORK, in_a_new_namespace as try_network};

/// State of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// VMs run, and lack something.
    Warn,
    /// No VM runs.
    No,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    text: String,
    /// Advice.
    hint: Option<String>,
}

impl Check {
    fn new(state: State, name: &'static str, text: impl Into<String>) -> Self {
        Self { name, state, text: text.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// An item with the text of an error.
    fn failed(state: State, name: &'static str, error: &Error) -> Self {
        Self::new(state, name, error.to_string().as_str())
    }
}

/// Everything, for programs.
#[derive(Serialize)]
struct Report<'a> {
    /// A VM can run.
    usable: bool,
    checks: &'a [Check],
}

/// Prints a line for each thing, or all as JSON; `crun` and `init` are the executables that would be used.
///
/// # Errors
/// Something is missing without which no VM runs.
pub fn run(json: bool, crun: Option<&Path>, init: &Path) -> Result<()> {
    let checks = checks::all(crun, init);
    print!("{}", if json { as_json(&checks)? } else { as_text(&checks) });
    match missing(&checks).as_slice() {
        [] => Ok(()),
        names => Err(Error::new("doctor", format!("no VM runs here, because of {}", names.join(", ")))),
    }
}

fn missing(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.state == State::No).map(|check| check.name).collect()
}

fn as_json(checks: &[Check]) -> Result<String> {
    let report = Report { usable: missing(checks).is_empty(), checks };
    Ok(serde_json::to_string_pretty(&report).context("doctor")? + "\n")
}

fn as_text(checks: &[Check]) -> String {
    let state = |state| match state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::No => "no",
    };
    let hint = |check: &Check| check.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
    let line = |check: &Check| format!("{:6}{:16}{}{}\n", state(check.state), check.name, check.text, hint(check));
    checks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Check> {
        vec![
            Check::new(State::Ok, "QEMU", "/usr/bin/qemu-system-x86_64"),
            Check::new(State::Warn, "KVM", "/dev/kvm: Permission denied").hint("--group-add keep-groups"),
            Check::failed(State::No, "libvirt", &Error::new("libvirt", "not installed").hint("install it")),
        ]
    }

    #[test]
    fn a_line_each() {
        let want = "ok    QEMU            /usr/bin/qemu-system-x86_64\n\
                    warn  KVM             /dev/kvm: Permission denied (--group-add keep-groups)\n\
                    no    libvirt         libvirt: not installed (install it)\n";
        assert_eq!(as_text(&some()), want);
    }

    #[test]
    fn json() {
        let json = as_json(&some()).unwrap();
        let want = serde_json::json!({
            "usable": false,
            "checks": [
                {"name": "QEMU", "state": "ok", "text": "/usr/bin/qemu-system-x86_64", "hint": null},
                {"name": "KVM", "state": "warn", "text": "/dev/kvm: Permission denied", "hint": "--group-add keep-groups"},
                {"name": "libvirt", "state": "no", "text": "libvirt: not installed (install it)", "hint": null}
            ]
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), want);
        // A warning does not prevent VMs.
        assert!(as_json(&some()[..2]).unwrap().contains("\"usable\": true"));
    }
}
