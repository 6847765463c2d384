//! The user's meta-data and network-config: small YAML without references.

use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, EventReceiver, Parser};
use yaml_rust2::{ScanError, Yaml, YamlLoader};

use crate::error::{Error, Result};

/// Levels of nesting that are read.
const DEPTH: usize = 32;

/// Reads the one mapping in `--cloud-init`'s file `name`. No error quotes what is in it.
///
/// # Errors
/// When it is not YAML, not a mapping, or has references, by which a few lines become gigabytes.
pub fn mapping(name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let bad = |why: &str| Error::new(format!("--cloud-init {name}"), why);
    let not_yaml = |e: ScanError| bad(&format!("not YAML: see line {}", e.marker().line()));
    let text = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
    let mut check = Check::default();
    Parser::new_from_str(text).load(&mut check, true).map_err(not_yaml)?;
    if check.alias || check.deepest > DEPTH {
        return Err(bad("references or too many levels"));
    }
    let documents = YamlLoader::load_from_str(text).map_err(not_yaml)?;
    match documents.first().map(value) {
        // To YAML, a line that ends with a colon is a name: the lines of /etc/shadow are.
        Some(Some(Value::Object(map))) if map.keys().all(|key| is_name(key)) => Ok(map),
        None | Some(Some(Value::Null)) => Ok(Map::new()),
        _ => Err(bad("not a mapping of names to plain values")),
    }
}

fn is_name(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
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
