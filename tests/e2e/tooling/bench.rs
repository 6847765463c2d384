//! The benchmark measures everything that its page explains. The values themselves are not checked.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{directory, source, text};

/// Rows of the smallest benchmark, by key.
fn smoke() -> BTreeMap<String, Value> {
    let dir = directory();
    let json = dir.at("bench.json");
    let output = Command::new(source("util/bench.sh"))
        .args(["--smoke", "--json", &json])
        .stdin(Stdio::null())
        .output()
        .expect("util/bench.sh");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let whole: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let plot = Command::new(source("util/bench/plot.sh")).arg(&json).output().expect("util/bench/plot.sh");
    assert!(text(&plot.stdout).ends_with("</svg>\n"), "{}", text(&plot.stderr));
    let rows = whole["rows"].as_array().unwrap();
    rows.iter().map(|row| (row["key"].as_str().unwrap().to_string(), row.clone())).collect()
}

#[test]
fn benchmark_measures_every_documented_value() {
    let rows = smoke();
    for (key, row) in &rows {
        let value = row["value"].as_f64().unwrap_or_else(|| panic!("{key} has no value: {row}"));
        // Differences and the memory that a guest returns may have any value in one measurement.
        let positive = value > 0.0 || row["kind"] == "difference" || key == "given_back";
        assert!(positive && row["n"].as_u64() >= Some(1), "{row}");
    }
    // Every key in the page's lists has a row, except that the smallest benchmark runs only one VM at a time.
    let page = fs::read_to_string(source("docs/performance.md")).unwrap();
    let explained: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("* `"))
        .filter_map(|line| line.split_once("`:"))
        .flat_map(|(keys, _)| keys.split("`, `"))
        .collect();
    assert!(explained.len() > 40, "{explained:?}");
    for key in &explained {
        let small = key.replace("scale_N_", "scale_1_");
        assert!(rows.contains_key(&small), "{key} was not measured: {:?}", rows.keys());
    }
    for key in rows.keys().filter(|key| !key.starts_with("scale_")) {
        assert!(explained.contains(&key.as_str()), "docs/performance.md does not explain {key}");
    }
}
