//! Command lines of `podman exec`, parsed by real login shells: all words arrive byte for byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use supervisor::exec::Job;

/// Login shells; those that are not installed are left out. `make test` installs all.
const SHELLS: &[&str] = &["/bin/sh", "/bin/bash", "/usr/bin/fish", "/bin/csh", "/bin/tcsh", "/bin/zsh", "/bin/mksh"];
/// Number of jobs for every shell.
const JOBS: usize = 25;
/// Bytes with a special meaning in some shell.
const SPECIAL: &[u8] = b"'\"\\!$`\n\r\t *?[]{}~#;&|<>()^=%-,:@/n";

/// Pseudorandom numbers, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    /// A word of any bytes but NUL, which no argument contains.
    fn word(&mut self) -> Vec<u8> {
        let special = self.below(4) > 0;
        let byte = |random: &mut Self| match special {
            true => SPECIAL[random.below(SPECIAL.len())],
            false => 1 + random.below(255) as u8,
        };
        (0..self.below(20)).map(|_| byte(self)).collect()
    }
}

/// Runs a command as sshd does.
fn run(shell: &str, command: &[u8]) -> Vec<u8> {
    let output = Command::new(shell).arg("-c").arg(OsStr::from_bytes(command)).env("SHELL", shell).output().unwrap();
    assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn words_arrive_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let shells: Vec<_> = SHELLS.iter().filter(|shell| Path::new(shell).exists()).collect();
    assert!(shells.len() > 1, "{shells:?}");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..JOBS {
        let words: Vec<_> = (0..40).map(|_| random.word()).collect();
        let variable = random.word();
        let name: Vec<u8> = random.word().into_iter().filter(|byte| *byte != b'/').collect();
        let cwd = dir.path().join(OsStr::from_bytes(&[b"d", &name[..]].concat()));
        std::fs::create_dir_all(&cwd).unwrap();
        let mut argv: Vec<Vec<u8>> = vec![b"sh".into(), b"-c".into()];
        argv.push(br#"printf '%s\0' "$V" "$(pwd -P; echo x)" "$@""#.into());
        argv.push(b"-".into());
        argv.extend(words.iter().cloned());
        let job = Job {
            token: format!("crunqemu{number}"),
            argv,
            env: if number % 2 == 0 { vec![(b"V".to_vec(), variable.clone())] } else { Vec::new() },
            cwd: Some(cwd.as_os_str().as_bytes().to_vec()),
        };
        let here = [cwd.canonicalize().unwrap().as_os_str().as_bytes(), b"\nx"].concat();
        let first = if number % 2 == 0 { variable } else { Vec::new() };
        let want: Vec<u8> = [first, here].iter().chain(&words).flat_map(|word| [word, &b"\0"[..]].concat()).collect();
        let command = job.command().unwrap();
        for shell in &shells {
            let got = run(shell, &command);
            assert_eq!(got, want, "{shell}: {}", String::from_utf8_lossy(&command));
        }
    }
}
