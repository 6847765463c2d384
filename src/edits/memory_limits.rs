//! The limits of the container's memory cgroup, which are raised by what the VM needs besides the guest's memory. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits in the map of cgroup v2's own files that are raised like the others.
pub const UNIFIED: &[&str] = &["memory.max", "memory.high"];

/// Limits of memory as a configuration has them, bytes but for the flags and the swappiness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Of the kernel for the container.
    pub kernel: Option<i64>,
    /// Of the buffers of TCP.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// Of the whole; -1 is none.
    pub limit: Option<i64>,
    /// What is tried to be kept.
    pub reservation: Option<i64>,
    /// Of the whole with swap.
    pub swap: Option<i64>,
    /// How eagerly to swap, 0 to 100.
    pub swappiness: Option<u64>,
    /// Wait instead of killing.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Of version 1: count what is below.
    pub use_hierarchy: Option<bool>,
    /// Refuse what is used already.
    pub check_before_update: Option<bool>,
}

impl Memory {
    /// Whether `all` says the same of what is said here.
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
    /// By the specification's names.
    pub memory: Option<Memory>,
    /// By those of cgroup v2's files; others than limits of memory may be among them.
    pub unified: Option<BTreeMap<String, String>>,
}

impl RequestedLimits {
    /// Those of a `config.json`.
    ///
    /// # Errors
    /// It is not JSON, or a limit is no number.
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

    /// The limit of memory; crun writes cgroup v2's own files last. -1 is none.
    pub fn limit(&self) -> Option<i64> {
        let file = self.file("memory.max").map(|text| number(text).unwrap_or(-1));
        file.or_else(|| self.memory.as_ref()?.limit)
    }

    /// The text for one of cgroup v2's files.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.unified.as_ref()?.get(name).map(String::as_str)
    }

    /// Without the zeros, by which some engines mean that nothing is to change.
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

/// What becomes of the limits in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// They are raised by so many bytes.
    Raise(u64),
    /// They are what they were at the start.
    Restore(InitialLimits),
}

/// The limits with which the container was started, raised; -1 or `max` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialLimits {
    /// Memory.
    pub limit: i64,
    /// Memory with swap.
    pub swap: i64,
    /// The [`UNIFIED`] ones, in their order.
    pub files: Vec<String>,
}

impl Change {
    /// Of the limit of memory.
    pub fn limit(&self, old: i64) -> i64 {
        match self {
            Self::Raise(by) => raised(old, *by),
            // Not a limit: nothing is to change.
            Self::Restore(_) if old == 0 => 0,
            Self::Restore(started) => started.limit,
        }
    }

    /// Of the limit of memory with swap.
    pub fn swap(&self, old: i64) -> i64 {
        match self {
            Self::Raise(by) => raised(old, *by),
            Self::Restore(_) if old == 0 => 0,
            Self::Restore(started) => started.swap,
        }
    }

    /// Of the file with this index among the [`UNIFIED`] ones. `None`: it stays.
    pub fn file(&self, index: usize, old: &str) -> Option<String> {
        match self {
            Self::Raise(by) => raised_text(old, *by),
            Self::Restore(started) => started.files.get(index).cloned(),
        }
    }
}

/// `limit` raised by `by` bytes; what is no number of bytes stays: -1 is none, and 0 is no limit that anybody means.
pub fn raised(limit: i64, by: u64) -> i64 {
    if limit <= 0 { limit } else { limit.saturating_add_unsigned(by) }
}

/// The same for the text of one of cgroup v2's files, which may be `max`. `None`: it stays.
pub fn raised_text(limit: &str, by: u64) -> Option<String> {
    number(limit).map(|limit| raised(limit, by).to_string())
}

/// The number of bytes that such a file's text says. `None`: it says none.
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
