//! Options and annotations: a line each, annotations with an @ in front (`@name value`).

use std::collections::BTreeMap;

use crun_qemu::request::options::{ANNOTATION_PREFIX, Options, TABLE};

use super::told;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut args, mut annotations) = (Vec::new(), BTreeMap::new());
    for line in text.split('\n') {
        match line.strip_prefix('@') {
            Some(line) => {
                let (name, value) = line.split_once(' ').unwrap_or((line, ""));
                annotations.insert(format!("{ANNOTATION_PREFIX}{name}"), value);
            }
            None => args.push(line.to_owned()),
        }
    }
    let pairs = || annotations.iter().map(|(k, v)| (k.as_str(), *v));
    let parsed = Options::parse(&args, pairs());
    assert_eq!(parsed, Options::parse(&args, pairs().rev()), "engines write annotations in any order");
    let Some(options) = told(parsed) else { return };
    // An argument wins, and alone means the same.
    if annotations.is_empty() {
        as_annotations(&args, &options);
    }
}

/// What can be said by arguments can be said by annotations.
fn as_annotations(args: &[String], options: &Options) {
    let first = args.iter().position(String::is_empty).map_or(0, |empty| empty + 1);
    let mut said = BTreeMap::new();
    let mut rest = args[first..].iter();
    while let Some(arg) = rest.next() {
        let (name, inline) = arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
        let spec = TABLE.iter().find(|spec| name.strip_prefix("--") == Some(spec.name)).expect("it was taken");
        let value = inline.or_else(|| if spec.argument.is_some() { rest.next().map(String::as_str) } else { None });
        // Annotations of one name are sorted: numbers of one length keep the order.
        let key = match spec.repeat {
            true => format!("{ANNOTATION_PREFIX}{}.{:09}", spec.name, said.len()),
            false => format!("{ANNOTATION_PREFIX}{}", spec.name),
        };
        said.insert(key, value.unwrap_or("true"));
    }
    let again = Options::parse(&[], said.iter().map(|(k, v)| (k.as_str(), *v)));
    // They mean the same, but for who can have given them.
    let again = again.map(|again| Options { annotations: options.annotations.clone(), ..again });
    assert_eq!(again.as_ref(), Ok(options));
}
