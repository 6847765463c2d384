//! Words for a command in the guest: read back as shells read them, they are the same.
//!
//! The words are apart by NULs, as in argv; the knob says what else the job has.

use supervisor::exec::Job;
use supervisor::exec::environment::asked;

use super::{knob, told};

pub fn run(data: &[u8]) {
    let Some((knob, data)) = knob(data) else { return };
    let mut words: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    environment(&words);
    let cwd = (knob & 1 == 1).then(|| words.remove(0));
    if words.is_empty() {
        return;
    }
    let argv = words;
    let job = Job { token: "crunqemu0".into(), argv, env: Vec::new(), cwd };
    let Some(command) = told(job.command()) else { return };
    let script = login_shell(&command);
    let script = sh(&script);
    let cd = job.cwd.iter().flat_map(|dir| [b"cd".to_vec(), dir.clone(), b"||".to_vec()]);
    let cd: Vec<_> = cd.collect();
    assert!(script.windows(cd.len().max(1)).any(|found| found == cd) || cd.is_empty(), "{script:?}");
    let mut want: Vec<&[u8]> = vec![b"exec"];
    want.extend(job.argv[0].starts_with(b"-").then_some(&b"--"[..]));
    want.extend(job.argv.iter().map(Vec::as_slice));
    want.extend([&b")"[..], b";", b"exit"]);
    assert!(script.windows(want.len()).any(|found| found == want), "{script:?}");
}

/// Takes the outer layer off, and sees that no login shell reads it in another way: between single quotes there is
/// nothing that csh, fish or a line reader would take up, and outside them only what is behind a backslash.
fn login_shell(command: &[u8]) -> Vec<u8> {
    let mut rest = command.strip_prefix(b"exec /bin/sh -c ").expect("handed over");
    let mut out = Vec::new();
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b'\'' => {
                let end = tail.iter().position(|byte| *byte == b'\'').expect("closed");
                assert!(!tail[..end].iter().any(|byte| b"\\!\n\0".contains(byte)));
                out.extend(&tail[..end]);
                rest = &tail[end + 1..];
            }
            b'\\' => {
                assert!(b"'\\!".contains(&tail[0]));
                out.push(tail[0]);
                rest = &tail[1..];
            }
            other => panic!("{:?} bare", char::from(other)),
        }
    }
    out
}

/// Words and operators as the Bourne shell tells them apart; `"$n"` is a newline.
fn sh(script: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = script;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\'' => {
                let end = rest.iter().position(|byte| *byte == b'\'').expect("closed");
                word.get_or_insert_default().extend(&rest[..end]);
                rest = &rest[end + 1..];
            }
            b'\\' => {
                word.get_or_insert_default().push(rest[0]);
                rest = &rest[1..];
            }
            b'"' => {
                let end = rest.iter().position(|byte| *byte == b'"').expect("closed");
                assert_eq!(&rest[..end], b"$n", "the only variable");
                word.get_or_insert_default().push(b'\n');
                rest = &rest[end + 1..];
            }
            b' ' | b';' | b'(' | b')' => {
                words.extend(word.take());
                words.extend((first != b' ').then(|| vec![first]));
            }
            b'\n' => panic!("a newline"),
            _ => word.get_or_insert_default().push(first),
        }
    }
    words.extend(word);
    words
}

/// An environment with the image's own: nothing of it is told as asked for with the exec.
fn environment(words: &[Vec<u8>]) {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let configured: Vec<String> = words.iter().filter_map(|word| String::from_utf8(word.clone()).ok()).collect();
    let inert = |(n, value): (usize, &Vec<u8>)| {
        (OsString::from(format!("CRUN_QEMU_ENV_{n}")), OsString::from_vec(value.clone()))
    };
    let (vars, _) = asked(words.iter().enumerate().map(inert), &configured);
    let mut names: Vec<_> = vars.iter().map(|(name, _)| name).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]) && names.iter().all(|name| !name.is_empty()));
    // Words that are not UTF-8 cannot stand in a configuration.
    let all_text = configured.len() == words.len();
    assert!(!all_text || vars.is_empty(), "{vars:?}");
}
