//! The user's meta-data: small YAML without references.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, EventReceiver, Parser};
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
    let mut check = Check::default();
    Parser::new_from_str(text).load(&mut check, true).map_err(|e| bad(e.to_string()))?;
    if check.alias || check.deepest > DEPTH {
        return Err(bad("references or too many levels".into()));
    }
    let documents = YamlLoader::load_from_str(text).map_err(|e| bad(e.to_string()))?;
    match documents.first().map(value) {
        Some(Some(Value::Object(map))) => Ok(map),
        None | Some(Some(Value::Null)) => Ok(Map::new()),
        _ => Err(bad("not a mapping of names to plain values".into())),
    }
}

#[derive(Default)]
struct Check {
    alias: bool,
    depth: usize,
    deepest: usize,
}

impl EventReceiver for Check {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Alias(_) => self.alias = true,
            Event::SequenceStart(..) | Event::MappingStart(..) => self.depth += 1,
            Event::SequenceEnd | Event::MappingEnd => self.depth -= 1,
            _ => {}
        }
        self.deepest = self.deepest.max(self.depth);
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
