//! The benchmark runs, and says something of everything that its page explains. What it measures is not looked at.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{directory, source, text};

/// Rows by key, from the smallest benchmark that there is.
fn smoke() -> BTreeMap<String, Value> {
    let dir = directory();
    let json = dir.path().join("bench.json");
    let output = Command::new(source("util/bench.sh"))
        .args(["--smoke", "--json", json.to_str().unwrap()])
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
fn every_figure_is_there() {
    let rows = smoke();
    for (key, row) in &rows {
        let value = row["value"].as_f64().unwrap_or_else(|| panic!("{key} has no value: {row}"));
        // Differences, and what a guest gives back, may be anything when they are measured once.
        let positive = value > 0.0 || row["kind"] == "difference" || key == "given_back";
        assert!(positive && row["n"].as_u64() >= Some(1), "{row}");
    }
    // Every key in the page's lists is a row; more VMs at once than the smallest benchmark has are the exception.
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
