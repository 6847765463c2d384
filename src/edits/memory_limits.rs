//! Limits of the container's memory cgroup, raised by what the VM needs beside the guest's memory. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits in the map of cgroup v2's own files that are raised like the others.
pub const UNIFIED: &[&str] = &["memory.max", "memory.high"];

/// The memory limits of a configuration, in bytes except for the flags and the swappiness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Limit of kernel memory for the container.
    pub kernel: Option<i64>,
    /// Limit of TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// Hard limit; -1 is no limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Limit of memory and swap together.
    pub swap: Option<i64>,
    /// Swappiness, 0 to 100.
    pub swappiness: Option<u64>,
    /// Pause instead of OOM-killing.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// cgroup v1: count the groups below as well.
    pub use_hierarchy: Option<bool>,
    /// Reject a limit below the current usage.
    pub check_before_update: Option<bool>,
}

impl Memory {
    /// Whether every limit set here has the same value in `all`.
    pub fn is_part_of(&self, all: &Self) -> bool {
        fn is<T: PartialEq>(part: &Option<T>, all: &Option<T>) -> bool {
            part.is_none() || part == all
        }
        is(&self.kernel, &all.kernel)
            && is(&self.kernel_tcp, &all.kernel_tcp)
            && is(&self.limit, &all.limit)
            && is(&self.reservation, &all.reservation)
            && is(&self.swap, &all.swap)
            && is(&self.swappiness, &all.swappiness)
            && is(&self.disable_oom_killer, &all.disable_oom_killer)
            && is(&self.use_hierarchy, &all.use_hierarchy)
            && is(&self.check_before_update, &all.check_before_update)
    }
}

/// The limits that a configuration or an update names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedLimits {
    /// Limits under the specification's names.
    pub memory: Option<Memory>,
    /// Limits under the names of cgroup v2's files; other files may be among them.
    pub unified: Option<BTreeMap<String, String>>,
}

impl RequestedLimits {
    /// Reads the limits of a `config.json`.
    ///
    /// # Errors
    /// The text is not JSON, or a limit is not a number.
    pub fn of_config(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Config {
            linux: Option<Linux>,
        }
        #[derive(Deserialize)]
        struct Linux {
            resources: Option<RequestedLimits>,
        }
        let config: Config = serde_json::from_str(text)?;
        Ok(config.linux.and_then(|linux| linux.resources).unwrap_or_default())
    }

    /// The effective hard limit, bytes; -1 is no limit. crun writes cgroup v2's files last, so they override.
    pub fn limit(&self) -> Option<i64> {
        let file = self.file("memory.max").map(|text| number(text).unwrap_or(-1));
        file.or_else(|| self.memory.as_ref()?.limit)
    }

    /// The text for a file of cgroup v2.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.unified.as_ref()?.get(name).map(String::as_str)
    }

    /// The limits without zeros, which some engines send for limits that stay.
    pub fn without_zeros(self) -> Self {
        let set = |limit: Option<i64>| limit.filter(|limit| *limit != 0);
        let memory = self.memory.map(|m| Memory {
            kernel: set(m.kernel),
            kernel_tcp: set(m.kernel_tcp),
            limit: set(m.limit),
            reservation: set(m.reservation),
            swap: set(m.swap),
            ..m
        });
        Self { memory, ..self }
    }
}

/// How the limits in a configuration change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Raised by this number of bytes.
    Raise(u64),
    /// Set to their values at the start.
    Restore(InitialLimits),
}

/// The raised limits at start; -1 or `max` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialLimits {
    /// Hard limit, bytes.
    pub limit: i64,
    /// Limit of memory and swap together, bytes.
    pub swap: i64,
    /// The texts of the [`UNIFIED`] files, in that order.
    pub files: Vec<String>,
}

impl Change {
    /// New value of the hard limit.
    pub fn limit(&self, old: i64) -> i64 {
        match self {
            Self::Raise(by) => raised(old, *by),
            // Some engines send 0 for a limit that stays.
            Self::Restore(_) if old == 0 => 0,
            Self::Restore(started) => started.limit,
        }
    }

    /// New value of the limit of memory and swap.
    pub fn swap(&self, old: i64) -> i64 {
        match self {
            Self::Raise(by) => raised(old, *by),
            Self::Restore(_) if old == 0 => 0,
            Self::Restore(started) => started.swap,
        }
    }

    /// New value of the [`UNIFIED`] file with this index; `None`: unchanged.
    pub fn file(&self, index: usize, old: &str) -> Option<String> {
        match self {
            Self::Raise(by) => raised_text(old, *by),
            Self::Restore(started) => started.files.get(index).cloned(),
        }
    }
}

/// `limit` raised by `by` bytes. Values that are not a number of bytes stay: -1 is no limit, and 0 is never meant as
/// one.
pub fn raised(limit: i64, by: u64) -> i64 {
    if limit <= 0 { limit } else { limit.saturating_add_unsigned(by) }
}

/// The same for the text of a cgroup v2 file, which may be `max`; `None`: unchanged.
pub fn raised_text(limit: &str, by: u64) -> Option<String> {
    number(limit).map(|limit| raised(limit, by).to_string())
}

/// The number of bytes in the text of such a file; `None` for words such as `max`.
pub fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok().filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_raised_and_others_stay() {
        for (limit, want) in [(-1, -1), (0, 0), (1, 101), (i64::MAX - 1, i64::MAX)] {
            assert_eq!(raised(limit, 100), want);
        }
        for (limit, want) in [("max", None), ("0", None), ("-1", None), ("", None), (" 1\n", Some("101"))] {
            assert_eq!(raised_text(limit, 100).as_deref(), want, "{limit:?}");
        }
    }
}
