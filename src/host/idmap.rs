//! The ids of users and groups that a user namespace has. Pure.

use std::ops::Range;

/// Ids that no user has, on a host or in a container, by systemd's survey of uid ranges; for a namespace that has all
/// host ids.
const NOBODYS: Range<u32> = 0x7000_0000..0x7ffd_0000;
/// The id that the kernel shows for an unmapped id, so files of other users appear to have it.
pub const OVERFLOW: u32 = 65534;

/// Ids in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The first, as the namespace has it.
    pub inside: u32,
    /// The first, as its parent has it.
    pub outside: u32,
    /// Number of ids.
    pub length: u32,
}

/// All ids of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(pub Vec<Row>);

impl IdMap {
    /// Parses the text of `/proc/PID/uid_map` or `gid_map`; malformed lines have no ids.
    pub fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Row { inside: next()?, outside: next()?, length: next()? })
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// The same ids, mapped to themselves, for a process that stays in the namespace.
    pub fn own(&self) -> Self {
        Self(self.0.iter().map(|row| Row { outside: row.inside, ..*row }).collect())
    }

    /// The parent namespace's number for `id`.
    pub fn outside(&self, id: u32) -> Option<u32> {
        let offset = |row: &Row| id.checked_sub(row.inside).filter(|n| *n < row.length).map(|n| row.outside + n);
        self.0.iter().find_map(offset)
    }

    /// The namespace's number for the parent's `id`.
    pub fn inside(&self, id: u32) -> Option<u32> {
        let offset = |row: &Row| id.checked_sub(row.outside).filter(|n| *n < row.length).map(|n| row.inside + n);
        self.0.iter().find_map(offset)
    }

    /// An id that is root's neither inside nor outside and, if possible, no other user's: one of `NOBODYS`, else one of
    /// the upper half of the longest range, which images rarely use. `digest` selects it, so that two VMs hardly ever
    /// have the same.
    pub fn choose(&self, digest: u128) -> Option<u32> {
        let usable = self.0.iter().map(usable).max_by_key(Range::len)?;
        let from = match usable {
            Range { start, end } if start <= NOBODYS.start && NOBODYS.end <= end => NOBODYS,
            Range { start, end } => start + (end - start) / 2..end,
        };
        let count = u128::from(from.end - from.start);
        (count > 0).then(|| from.start + (digest % count.max(1)) as u32)
    }
}

fn usable(row: &Row) -> Range<u32> {
    let end = row.inside.saturating_add(row.length);
    let start = row.inside + u32::from(row.length > 0 && (row.inside == 0 || row.outside == 0));
    match end {
        // The overflow id is one of few ids in a small namespace, but not among all host ids.
        end if end <= NOBODYS.end && (start..end).contains(&OVERFLOW) => start..OVERFLOW,
        end => start..end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "         0          0 4294967295\n";
    const ROOTLESS: &str = "0 1000 1\n1 100000 65536\n";
    /// podman's `--userns=keep-id` of user 1000.
    const KEEP_ID: &str = "0 1 1000\n1000 0 1\n1001 1001 64536\n";

    #[test]
    fn an_id_of_its_own() {
        for (map, digest, want) in [
            (HOSTS, 0, Some(0x7000_0000)),
            (HOSTS, 0x0ffd_0001, Some(0x7000_0001)),
            (ROOTLESS, 0, Some(32767)),
            (ROOTLESS, 32766, Some(65533)),
            (ROOTLESS, 32767, Some(32767)),
            (KEEP_ID, 0, Some(33267)),
            // podman's `--userns=auto`.
            ("0 200000 1024\n", 511, Some(1023)),
            ("0 200000 2\n", 9, Some(1)),
            ("0 200000 1\n1000 0 1\n", 9, None),
            ("0 0 1\n", 9, None),
            ("", 9, None),
        ] {
            assert_eq!(IdMap::parse(map).choose(digest), want, "{map} {digest}");
        }
    }

    #[test]
    fn both_ways() {
        let map = IdMap::parse(KEEP_ID);
        for (inside, outside) in [(0, 1), (999, 1000), (1000, 0), (1001, 1001), (65536, 65536)] {
            assert_eq!((map.outside(inside), map.inside(outside)), (Some(outside), Some(inside)));
        }
        assert_eq!((map.outside(65537), map.inside(65537)), (None, None));
        let hosts = IdMap::parse(HOSTS);
        assert_eq!((hosts.outside(u32::MAX - 1), hosts.outside(u32::MAX)), (Some(u32::MAX - 1), None));
        assert_eq!(IdMap::parse(ROOTLESS).own().outside(7), Some(7));
    }
}
