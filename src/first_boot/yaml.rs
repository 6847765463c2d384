//! The user's meta-data and network-config: small YAML without references.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::ScanError;
use yaml_rust2::{Yaml, YamlLoader};

use crate::error::{Error, Result};

/// Levels of nesting that are read.
const DEPTH: usize = 32;

/// Reads the one mapping in `--cloud-init`'s file `name`. No error quotes what is in it.
///
/// # Errors
/// When it is not YAML, not a mapping, or has references, by which a few lines become gigabytes.
pub fn mapping(name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let bad = |why: &str| Error::new(format!("--cloud-init {name}"), why);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
    let found = document(text).map_err(|fault| match fault {
        Fault::NotYaml(e) => bad(&format!("not YAML: see line {}", e.marker().line())),
        Fault::NotFlat => bad("references or too many levels"),
    })?;
    match found {
        // To YAML, a line that ends with a colon is a name: the lines of /etc/shadow are.
        Some(Value::Object(map)) if map.keys().all(|key| is_name(key)) => Ok(map),
        Some(Value::Null) => Ok(Map::new()),
        _ => Err(bad("not a mapping of names to plain values")),
    }
}

/// Why a text was not loaded.
#[derive(Debug)]
pub enum Fault {
    /// The scanner's own reason, which quotes the text.
    NotYaml(ScanError),
    /// It has references or too many levels.
    NotFlat,
}

/// Loads the first document of `text`: null if there is none, `None` if its values do not exist in JSON.
///
/// # Errors
/// When it is not YAML or not flat.
pub fn document(text: &str) -> std::result::Result<Option<Value>, Fault> {
    if !is_flat(text).map_err(Fault::NotYaml)? {
        return Err(Fault::NotFlat);
    }
    let documents = YamlLoader::load_from_str(text).map_err(Fault::NotYaml)?;
    Ok(documents.first().map_or(Some(Value::Null), value))
}

fn is_name(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}

/// Checks the events one by one: loading a document recurses for each of its levels.
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
        assert!(mapping("meta-data", nested(DEPTH - 1).as_bytes()).is_ok());
        // The last would take more stack than a thread has.
        for text in ["a: &x 1\nb: *x\n", &nested(DEPTH), &"- ".repeat(200_000), &"? ".repeat(200_000)] {
            let error = mapping("meta-data", text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "--cloud-init meta-data: references or too many levels");
        }
    }
}
