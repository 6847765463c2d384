//! The limits of the container's memory cgroup, which are raised by what the VM needs besides the guest's memory. Pure.

/// Limits in the map of cgroup v2's own files that are raised like the others.
pub const UNIFIED: &[&str] = &["memory.max", "memory.high"];

/// `limit` raised by `by` bytes; what is no number of bytes stays: -1 is none, and 0 is no limit that anybody means.
pub fn raised(limit: i64, by: u64) -> i64 {
    if limit <= 0 { limit } else { limit.saturating_add_unsigned(by) }
}

/// The same for the text of one of cgroup v2's files, which may be `max`. `None`: it stays.
pub fn raised_text(limit: &str, by: u64) -> Option<String> {
    let limit = limit.trim().parse().ok().filter(|limit| *limit > 0)?;
    Some(raised(limit, by).to_string())
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
