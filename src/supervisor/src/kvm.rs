//! Whether KVM runs a guest's code: a VM with one CPU and a small program, without QEMU.
//!
//! The program takes the path of every guest's boot, from the reset vector through protected mode into long mode, and
//! takes an interrupt in both. Some KVMs do not get that far: without the CPU's virtualization, one may interpret the
//! guest's code, and not know every instruction.

mod program;
mod vm;

use crun_qemu::host::KVM_BROKEN;
use nix::sys::resource::{Resource, setrlimit};

use program::{MARKS, NAMES};
use vm::{Exit, Vm};

/// CPU time that is plenty, seconds: on a busy host it passes more slowly than the clock.
const PLENTY: u64 = 2;

/// Runs the program; the exit status, and on stderr why it is not 0.
pub fn run() -> i32 {
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = setrlimit(Resource::RLIMIT_CPU, PLENTY, PLENTY);
    let verdict = Vm::new(&program::image()).map_err(|e| e.to_string()).and_then(|mut vm| {
        let mut marks = Vec::new();
        let end = loop {
            match vm.run().map_err(|e| e.to_string())? {
                Exit::Said(mark) if marks.len() < MARKS.len() => marks.push(mark),
                end => break end,
            }
        };
        Ok(verdict(&marks, end))
    });
    match verdict {
        Ok(Ok(())) => 0,
        Ok(Err(why)) => {
            eprintln!("{why}");
            KVM_BROKEN
        }
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}

/// Verdict on a program that left these marks and ended like this.
fn verdict(marks: &[u8], end: Exit) -> Result<(), String> {
    if marks == MARKS && end == Exit::Halted {
        return Ok(());
    }
    let attachments = marks.iter().zip(MARKS).take_while(|(mark, want)| mark == want).count();
    let place = NAMES.get(attachments).unwrap_or(&"its end");
    let end = match end {
        Exit::Said(_) => "it goes astray".to_string(),
        Exit::Halted => "it halts".to_string(),
        Exit::InternalError(1) => "KVM would have to emulate an instruction that it does not know".to_string(),
        Exit::InternalError(n) => format!("KVM's internal error {n}"),
        Exit::Other(8) => "it resets".to_string(),
        Exit::Other(n) => format!("KVM's exit reason {n}"),
    };
    Err(format!("a small program under KVM ends at {place}: {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let ends = |place: &str, why: &str| Err(format!("a small program under KVM ends at {place}: {why}"));
        for (marks, end, want) in [
            (&MARKS[..], Exit::Halted, Ok(())),
            (&MARKS[..4], Exit::Halted, ends("an interrupt's return in long mode", "it halts")),
            (
                &MARKS[..2],
                Exit::InternalError(1),
                ends(
                    "an interrupt's return in protected mode",
                    "KVM would have to emulate an instruction that it does not know",
                ),
            ),
            (&MARKS[..0], Exit::Other(9), ends("the reset vector", "KVM's exit reason 9")),
            (&MARKS[..3], Exit::Other(8), ends("an interrupt in long mode", "it resets")),
            (
                &[MARKS[0], b'?'],
                Exit::InternalError(3),
                ends("an interrupt in protected mode", "KVM's internal error 3"),
            ),
            (&MARKS[..], Exit::Said(b'?'), ends("its end", "it goes astray")),
        ] {
            assert_eq!(verdict(marks, end), want, "{marks:?} {end:?}");
        }
    }
}
