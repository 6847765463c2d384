//! QEMU's last messages before it died, in one line.

use std::fs;
use std::path::Path;

use crun_qemu::handoff::paths;

/// Bytes read from the end of a log; QEMU's last messages are a few lines.
const TAIL: usize = 8 << 10;
/// Most of QEMU's lines in one message.
const LINES: usize = 3;

/// The last lines of QEMU's own in the only log below libvirt's root directory.
pub fn last_lines(root: &Path) -> Option<String> {
    let dir = fs::read_dir(root.join("log/qemu")).ok()?;
    let log = dir.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "log"))?;
    let bytes = fs::read(log).ok()?;
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned();
    qemu_lines(&tail)
}

/// The last of QEMU's own lines in a log. Left out: libvirt's lines, those from before this start, and the line that
/// the supervisor ended QEMU, which is never the reason.
fn qemu_lines(log: &str) -> Option<String> {
    let ours = format!("({})", paths::INIT);
    let is_news = |line: &&str| !(line.contains("terminating on signal") && line.ends_with(&ours));
    let lines: Vec<&str> = log.lines().filter_map(qemu_line).filter(is_news).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join("; "))
}

/// libvirt's message with the lines of QEMU's log, that it may hold, on one line and without their time.
pub fn one_line(message: &str) -> String {
    let lines: Vec<String> = message.lines().filter(|l| !l.trim().is_empty()).map(untimed).collect();
    lines.join("; ")
}

/// The line with the first time in it left out.
fn untimed(line: &str) -> String {
    let starts = std::iter::once(0).chain(line.match_indices(' ').map(|(i, _)| i + 1));
    for start in starts {
        if let Some(said) = qemu_line(&line[start..]) {
            return format!("{}{said}", &line[..start]);
        }
    }
    line.to_owned()
}

/// A line as QEMU logs it, `TIMEZ PROGRAM: TEXT`, without its time; `None` for any other line.
fn qemu_line(line: &str) -> Option<&str> {
    let (time, said) = line.split_once(' ')?;
    let is_time = time.ends_with('Z') && time.contains('T') && time.starts_with(|c: char| c.is_ascii_digit());
    (is_time && said.starts_with("qemu")).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_of_a_log() {
        let log = "2026-01-02 03:04:05.678+0000: starting up libvirt version: 9.0.0, qemu version: 7.2\n\
                   LC_ALL=C \\\n-msg timestamp=on\nchar device redirected\n\
                   2026-01-02T03:04:06.000000Z qemu-system-x86_64: warning: old\n\
                   2026-01-02T03:04:06.000001Z qemu-system-x86_64: -device x: no such device\n\
                   2026-01-02 03:04:07.000+0000: shutting down, reason=failed\n";
        let want = "qemu-system-x86_64: warning: old; qemu-system-x86_64: -device x: no such device";
        assert_eq!(qemu_lines(log).as_deref(), Some(want));
        assert_eq!(qemu_lines("2026-01-02 03:04:07.000+0000: shutting down, reason=failed\n"), None);
    }

    #[test]
    fn who_ended_it() {
        let line = "2026-01-02T03:04:06.000000Z qemu-system-x86_64: terminating on signal 15 from pid";
        assert_eq!(qemu_lines(&format!("{line} 1 (/crun-qemu/crun-qemu-init)\n")), None);
        let want = "qemu-system-x86_64: terminating on signal 15 from pid 7 (kill)";
        assert_eq!(qemu_lines(&format!("{line} 7 (kill)\n")).as_deref(), Some(want));
    }

    #[test]
    fn message_of_libvirt() {
        for (message, want) in [
            ("no domain", "no domain"),
            (
                "internal error: process exited: 2026-01-02T03:04:06.000Z qemu-system-x86_64: -blockdev x: no file\n\n",
                "internal error: process exited: qemu-system-x86_64: -blockdev x: no file",
            ),
            (
                "process exited: 2026-01-02T03:04:06.000Z qemu-system-x86_64: a: b\n2026-01-02T03:04:06.1Z qemu-system-x86_64: c",
                "process exited: qemu-system-x86_64: a: b; qemu-system-x86_64: c",
            ),
        ] {
            assert_eq!(one_line(message), want);
        }
    }
}
