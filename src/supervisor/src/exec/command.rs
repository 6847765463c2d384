//! The command line for the guest: argv has to survive the user's login shell, whichever it is, byte for byte.
//!
//! Two layers. The inner one is a script for `/bin/sh`, without newlines. The outer one hands that script over as one
//! word that sh, bash, zsh, fish and csh read alike: everything in single quotes but the three characters that one of
//! them treats specially even there, which stand outside behind a backslash.

use crun_qemu::error::{Error, Result};

/// Linux takes no longer string in argv, its NUL included (`MAX_ARG_STRLEN` with pages of 4 KiB), and sshd passes the
/// command as one.
const LONGEST: usize = 128 << 10;

/// The command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// Marks the wrapper's command line, so that the job can be found again: letters and digits.
    pub token: String,
    /// Program and arguments; empty for the login shell.
    pub argv: Vec<Vec<u8>>,
    /// Environment to add.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directory to run in, absolute; the user's home without it.
    pub cwd: Option<Vec<u8>>,
}

impl Job {
    /// The string for ssh.
    ///
    /// # Errors
    /// When it is longer than the guest's kernel takes.
    pub fn command(&self) -> Result<Vec<u8>> {
        let command = for_login_shell(&self.script());
        if command.len() >= LONGEST {
            let why = format!("{} bytes when quoted, and a guest takes {}", command.len(), LONGEST - 1);
            return Err(Error::new("exec: command too long", why).hint("pass the data on stdin"));
        }
        Ok(command)
    }

    /// A shell stays above the program, so that death by a signal becomes a status (sshd would report none), and a
    /// terminal's signals reach the program but not the shell, which would lose the status with its own death. `exec`
    /// in a subshell runs the program and never the shell's builtin of that name.
    fn script(&self) -> Vec<u8> {
        let mut s = format!(": {}; trap : HUP INT QUIT TERM; ", self.token).into_bytes();
        if self.strings().any(|s| s.contains(&b'\n')) {
            s.extend(br"n=$(printf '\nx'); n=${n%x}; ");
        }
        if let Some(dir) = &self.cwd {
            s.extend(b"cd ");
            word(&mut s, dir);
            s.extend(b" || exit 127; ");
        }
        // The shell would report how the program died.
        s.extend(b"exec 3>&2 2>/dev/null; (exec 2>&3 3>&-; exec ");
        self.program(&mut s);
        s.extend(b"); exit $?");
        s
    }

    fn program(&self, s: &mut Vec<u8>) {
        if !self.env.is_empty() {
            s.extend(b"env");
            for (name, value) in &self.env {
                s.push(b' ');
                word(s, &[name, b"=".as_slice(), value].concat());
            }
            s.push(b' ');
        }
        match self.argv.first() {
            None => return s.extend(br#""${SHELL:-/bin/sh}" -l"#),
            // env would read it as one more variable.
            Some(name) if !self.env.is_empty() && name.contains(&b'=') => s.extend(br#"sh -c 'exec "$0" "$@"' "#),
            // Only if needed, because not every shell's exec supports it.
            Some(name) if name.starts_with(b"-") => s.extend(b"-- "),
            Some(_) => {}
        }
        for (i, arg) in self.argv.iter().enumerate() {
            if i > 0 {
                s.push(b' ');
            }
            word(s, arg);
        }
    }

    fn strings(&self) -> impl Iterator<Item = &Vec<u8>> {
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        self.argv.iter().chain(env).chain(&self.cwd)
    }
}

/// Ends the job with this token and all of its process group: politely at first, for two seconds.
///
/// The pattern is written such that it does not find the command line it stands in. Not every sshd makes the command
/// the leader of a group (dropbear does not): its descendants are looked for there.
pub fn kill(token: &str) -> Vec<u8> {
    let (first, rest) = token.split_at(1);
    let script = format!(
        "k() {{ for f in /proc/[0-9]*/stat; do read -r x <$f || continue; x=${{x##*) }}; x=${{x#? }}; \
         [ \"${{x%% *}}\" = $1 ] && (f=${{f#/proc/}}; k ${{f%/*}}); done; kill -s $i $1; }}; \
         for s in 'HUP TERM' 'HUP TERM' KILL; do \
         for f in $(grep -ls '[{first}]{rest}' /proc/[0-9]*/cmdline); do p=${{f#/proc/}}; p=${{p%/*}}; \
         for i in $s; do kill -s $i -- -$p || k $p; done; done; sleep 1; done 2>/dev/null"
    );
    for_login_shell(script.as_bytes())
}

/// A word of the inner script; a newline is `$n` there.
fn word(s: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return s.extend(bytes);
    }
    s.push(b'\'');
    for &b in bytes {
        match b {
            b'\'' => s.extend(br"'\''"),
            b'\n' => s.extend(br#"'"$n"'"#),
            _ => s.push(b),
        }
    }
    s.push(b'\'');
}

fn for_login_shell(script: &[u8]) -> Vec<u8> {
    let mut s = b"exec /bin/sh -c '".to_vec();
    for &b in script {
        match b {
            b'\'' | b'\\' | b'!' => s.extend([b'\'', b'\\', b, b'\'']),
            _ => s.push(b),
        }
    }
    s.push(b'\'');
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Command, Output, Stdio};

    fn job(argv: &[&[u8]]) -> Job {
        Job { token: "tok123".into(), argv: argv.iter().map(|a| a.to_vec()).collect(), ..Job::default() }
    }

    /// Runs the command as sshd does with this login shell.
    fn run(shell: &str, command: &[u8]) -> Output {
        let command = std::ffi::OsStr::from_bytes(command);
        // `env` resets signals that the process that started the tests may have left ignored.
        let mut sshd = Command::new("env");
        sshd.args(["--default-signal=INT", shell, "-c"]).arg(command).env("SHELL", shell).output().unwrap()
    }

    #[test]
    fn arguments_arrive_byte_for_byte() {
        let hard: &[&[u8]] = &[
            b"",
            b" ",
            b"a b",
            b"it's",
            b"''",
            b"\"$HOME\" `id` $(id) ${x}",
            b"\\ \\\\ \\n \\'",
            b"!! !x a!b",
            b"\n",
            b"a\n\nb\n",
            b"* ? [a-z] ~ {a,b} # ; & | < > ( )",
            "\u{e4}\u{1f600}".as_bytes(),
            b"\xff\xfe\x01\x7f\t\r\x1b",
            b"-n",
            b"--",
            b"%s%n",
            b"A=B",
        ];
        let mut argv: Vec<&[u8]> = vec![b"printf", b"<%s>\\0"];
        argv.extend(hard);
        let command = job(&argv).command().unwrap();
        let want: Vec<u8> = hard.iter().flat_map(|a| [b"<", *a, b">\0"].concat()).collect();
        assert!(!command.contains(&b'\n'), "no login shell reads a newline as another");
        for shell in ["/bin/sh", "/bin/bash", "/usr/bin/fish", "/bin/csh", "/bin/zsh", "/bin/busybox"] {
            if std::path::Path::new(shell).exists() && shell != "/bin/busybox" {
                assert_eq!(run(shell, &command).stdout, want, "{shell}");
            }
        }
    }

    #[test]
    fn the_status_is_the_commands() {
        for (argv, want) in [
            (vec!["true"], 0),
            (vec!["sh", "-c", "exit 255"], 255),
            (vec!["sh", "-c", "kill -9 $$"], 137),
            (vec!["sh", "-c", "kill -2 $$"], 130),
            (vec!["sh", "-c", "kill -15 $$"], 143),
            (vec!["/nonexistent"], 127),
            (vec!["/etc/passwd"], 126),
            (vec!["exit", "3"], 127),
        ] {
            let bytes: Vec<&[u8]> = argv.iter().map(|a| a.as_bytes()).collect();
            let out = run("/bin/sh", &job(&bytes).command().unwrap());
            assert_eq!(out.status.code(), Some(want), "{argv:?}");
        }
    }

    #[test]
    fn environment_and_directory_hold_for_the_command() {
        let mut j = job(&[b"sh", b"-c", b"printf '%s|' \"$A\" \"$UID_\" \"$PWD\""]);
        j.env = vec![
            (b"A".to_vec(), b"x 'y'\nz".to_vec()),
            (b"UID_".to_vec(), b"".to_vec()),
            (b"a.b".to_vec(), b"c".to_vec()),
        ];
        j.cwd = Some(b"/usr/share".to_vec());
        assert_eq!(run("/bin/sh", &j.command().unwrap()).stdout, b"x 'y'\nz||/usr/share|");
        j.argv = vec![b"printenv".to_vec(), b"a.b".to_vec()];
        assert_eq!(run("/bin/sh", &j.command().unwrap()).stdout, b"c\n", "a name that no shell takes");
        j.argv = vec![b"a=b".to_vec()];
        assert_eq!(run("/bin/sh", &j.command().unwrap()).status.code(), Some(127), "a program, not a variable");
        j.argv.clear();
        assert!(run("/bin/sh", &j.command().unwrap()).status.success(), "login shell with nothing on stdin");
        j.cwd = Some(b"/nonexistent dir".to_vec());
        assert_eq!(run("/bin/sh", &j.command().unwrap()).status.code(), Some(127));
    }

    #[test]
    fn length_is_bounded() {
        let fits = vec![b'x'; 100 << 10];
        let out = run("/bin/sh", &job(&[b"printf", b"%s", &fits]).command().unwrap());
        assert_eq!(out.stdout, fits);
        let e = job(&[b"echo", &vec![b'x'; 128 << 10]]).command().unwrap_err().to_string();
        assert_eq!(
            e,
            "exec: command too long: 131186 bytes when quoted, and a guest takes 131071 (pass the data on stdin)"
        );
    }

    #[test]
    fn killing_finds_the_job_and_not_itself() {
        use std::io::Read;
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        let token = format!("crunqemutest{}", std::process::id());
        let mut j = job(&[b"sh", b"-c", b"trap : TERM HUP; echo; while :; do sleep 60 >&-; done"]);
        j.token = token.clone();
        let command = j.command().unwrap();
        let command = std::ffi::OsStr::from_bytes(&command);
        for leader in [true, false] {
            let mut child = Command::new("/bin/sh");
            if leader {
                child.process_group(0);
            }
            let mut child = child.arg("-c").arg(command).stdout(Stdio::piped()).spawn().unwrap();
            // This test is not about a shell that is killed before it has set its traps.
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            run("/bin/sh", &kill(&token));
            let status = child.wait().unwrap();
            // The program goes a moment before the shell above it.
            assert!(status.signal() == Some(9) || status.code() == Some(137), "{leader}: {status}");
        }
    }
}
