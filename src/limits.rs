//! The limits of the container's memory cgroup, which are raised by what the VM needs besides the guest's memory. Pure.

/// Limits in the map of cgroup v2's own files that are raised like the others.
pub const UNIFIED: &[&str] = &["memory.max", "memory.high"];

/// What becomes of the limits in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// They are raised by so many bytes.
    Raise(u64),
    /// They are what they were at the start.
    Keep(Started),
}

/// The limits with which the container was started, raised; -1 or `max` where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
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
            Self::Keep(started) => started.limit,
        }
    }

    /// Of the limit of memory with swap.
    pub fn swap(&self, old: i64) -> i64 {
        match self {
            Self::Raise(by) => raised(old, *by),
            Self::Keep(started) => started.swap,
        }
    }

    /// Of the file with this index among the [`UNIFIED`] ones. `None`: it stays.
    pub fn file(&self, index: usize, old: &str) -> Option<String> {
        match self {
            Self::Raise(by) => raised_text(old, *by),
            Self::Keep(started) => started.files.get(index).cloned(),
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
