//! The user's meta-data: small YAML without references.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::ScanError;
use yaml_rust2::{Yaml, YamlLoader};

use crate::error::{Error, Result};

/// Levels of nesting that are read.
const DEPTH: usize = 32;

/// Reads one mapping.
///
/// # Errors
/// When it is not YAML, not a mapping, or has references, by which a few lines become gigabytes.
pub fn mapping(bytes: &[u8]) -> Result<Map<String, Value>> {
    let bad = |why: String| Error::new("--cloud-init meta-data", why);
    let text = std::str::from_utf8(bytes).map_err(|e| bad(e.to_string()))?;
    if !is_flat(text).map_err(|e| bad(e.to_string()))? {
        return Err(bad("references or too many levels".into()));
    }
    let documents = YamlLoader::load_from_str(text).map_err(|e| bad(e.to_string()))?;
    match documents.first().map(value) {
        Some(Some(Value::Object(map))) => Ok(map),
        None | Some(Some(Value::Null)) => Ok(Map::new()),
        _ => Err(bad("not a mapping of names to plain values".into())),
    }
}

/// Looks at the events one by one: whoever loads a document calls itself for each level of it.
fn is_flat(text: &str) -> std::result::Result<bool, ScanError> {
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0;
    loop {
        match parser.next_token()?.0 {
            Event::Alias(_) => return Ok(false),
            Event::SequenceStart(..) | Event::MappingStart(..) if depth == DEPTH => return Ok(false),
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth -= 1,
            Event::StreamEnd => return Ok(true),
            _ => {}
        }
    }
}

fn value(yaml: &Yaml) -> Option<Value> {
    Some(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(b) => (*b).into(),
        Yaml::Integer(n) => (*n).into(),
        Yaml::Real(text) | Yaml::String(text) => text.clone().into(),
        Yaml::Array(items) => Value::Array(items.iter().map(value).collect::<Option<_>>()?),
        Yaml::Hash(items) => {
            let pair = |(k, v): (&Yaml, &Yaml)| {
                let key = match value(k)? {
                    Value::String(key) => key,
                    Value::Array(_) | Value::Object(_) => return None,
                    other => other.to_string(),
                };
                Some((key, value(v)?))
            };
            Value::Object(items.iter().map(pair).collect::<Option<_>>()?)
        }
        Yaml::Alias(_) | Yaml::BadValue => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_referring_documents_are_refused() {
        let nested = |levels: usize| format!("a: {}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(mapping(nested(DEPTH - 1).as_bytes()).is_ok());
        // The last would take more stack than a thread has.
        for text in ["a: &x 1\nb: *x\n", &nested(DEPTH), &"- ".repeat(200_000), &"? ".repeat(200_000)] {
            let error = mapping(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "qemu: --cloud-init meta-data: references or too many levels");
        }
    }
}
