//! Finds the variables that were given to an exec among those that the engine passes.
//!
//! The environment arrives inert, as `CRUN_QEMU_ENV_<n>=NAME=VALUE`: it contains the image's own ENV, which must not
//! act on our processes (`LD_PRELOAD`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crun_qemu::handoff::paths::EXEC_ENV;

/// A variable's name and value.
pub type Var = (Vec<u8>, Vec<u8>);

/// The variables given to the exec: those that are new or differ from the container's configuration. Engines pass both
/// in one list, in which the later entry counts. `TERM` is returned separately, because it belongs to the terminal.
pub fn asked(
    process: impl IntoIterator<Item = (OsString, OsString)>,
    configured: &[String],
) -> (Vec<Var>, Option<Vec<u8>>) {
    let mut numbered: Vec<(u32, Vec<u8>)> = process
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_str()?.strip_prefix(EXEC_ENV)?.parse().ok()?, value.into_vec())))
        .collect();
    numbered.sort();
    let mut vars: Vec<Var> = Vec::new();
    for (_, entry) in numbered {
        let Some(i) = entry.iter().position(|&b| b == b'=').filter(|&i| i > 0) else { continue };
        let (name, value) = (entry[..i].to_vec(), entry[i + 1..].to_vec());
        vars.retain(|(n, _)| *n != name);
        vars.push((name, value));
    }
    let term = vars.iter().find(|(name, _)| name == b"TERM").map(|(_, value)| value.clone());
    let home = configured.iter().any(|c| c.starts_with("HOME="));
    vars.retain(|(name, value)| {
        let same = configured.iter().any(|c| {
            c.as_bytes().strip_prefix(name.as_slice()).and_then(|rest| rest.strip_prefix(b"=")) == Some(value)
        });
        // The runtime adds a HOME if the configuration has none.
        !same && name != b"TERM" && (name != b"HOME" || home)
    });
    (vars, term)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_exec_was_given() {
        let process = [
            ("PATH", "/bin"),
            ("LD_PRELOAD", "/evil.so"),
            ("CRUN_QEMU_ENV_10", "A=again"),
            ("CRUN_QEMU_ENV_0", "PATH=/usr/bin"),
            ("CRUN_QEMU_ENV_1", "LD_PRELOAD=/evil.so"),
            ("CRUN_QEMU_ENV_2", "A=1"),
            ("CRUN_QEMU_ENV_3", "B=x=y"),
            ("CRUN_QEMU_ENV_4", "EMPTY="),
            ("CRUN_QEMU_ENV_5", "TERM=xterm"),
            ("CRUN_QEMU_ENV_6", "HOME=/root"),
            ("CRUN_QEMU_ENV_7", "CHANGED=new"),
            ("CRUN_QEMU_ENV_8", "=x"),
            ("CRUN_QEMU_ENV_9", "novalue"),
            ("CRUN_QEMU_ENV_x", "C=1"),
        ];
        let configured = ["PATH=/usr/bin", "LD_PRELOAD=/evil.so", "CHANGED=old", "TERM=xterm"].map(String::from);
        let (vars, term) = asked(process.map(|(n, v)| (n.into(), v.into())), &configured);
        let want = [("B", "x=y"), ("EMPTY", ""), ("CHANGED", "new"), ("A", "again")];
        assert_eq!(vars, want.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())));
        assert_eq!(term.as_deref(), Some(b"xterm".as_slice()));
    }
}
