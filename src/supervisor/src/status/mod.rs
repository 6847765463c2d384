//! `crun-qemu-init status`: the state of the VM, for `podman exec CONTAINER - crun-qemu-init status`.
//!
//! libvirt is embedded in the supervisor and answers no other process. So the supervisor writes a mark of the VM's
//! state, and the rest is in the domain from its configuration.

pub mod command;
mod domain;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crun_qemu::error::{Context, OneLine, Result};
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use crun_qemu::handoff::timings::StartTimings;

/// State of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not yet, or not any more: the supervisor has left no mark.
    Starting,
    /// The virtual CPUs run.
    Running,
    /// The virtual CPUs stand still until something is mended on the host.
    Paused,
    /// The guest or QEMU shuts down.
    ShuttingDown,
}

/// The supervisor's mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// State of the VM.
    pub state: State,
    /// Why it is paused, where that is known.
    pub reason: Option<String>,
    /// When its virtual CPUs began to run, in seconds since 1970.
    pub started: u64,
    /// The way there.
    pub stages: StartTimings,
}

impl Mark {
    /// The VM runs from now on.
    pub fn running() -> Self {
        Self { state: State::Running, reason: None, started: now().as_secs(), stages: StartTimings::default() }
    }

    /// Leaves the mark, in one step.
    ///
    /// # Errors
    /// When `path` cannot be written.
    pub fn leave(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self).context("status")?;
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).context(path.display())
    }

    /// Seconds since the virtual CPUs began to run, if they did.
    pub fn uptime(path: &Path) -> Option<u64> {
        Some(now().as_secs().saturating_sub(Self::read(path)?.started))
    }

    /// The mark that was left last, if any was.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// A disk of the VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Disk {
    /// Its name in the domain, which is the guest's for it most of the time.
    pub name: String,
    /// File or device, in the container.
    pub source: String,
    /// `qcow2` or `raw`.
    pub format: String,
    /// The guest cannot write.
    pub read_only: bool,
    /// Bytes that it takes on the host, where it is a file.
    pub allocated: Option<u64>,
}

/// A directory that the guest has from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Path in the guest, or a description of the content.
    pub target: String,
    /// The host takes no writes.
    pub read_only: bool,
}

/// The whole status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The domain's name.
    pub name: String,
    /// State of the VM.
    pub state: State,
    /// Why it is paused, where that is known.
    pub reason: Option<String>,
    /// Seconds that its virtual CPUs have run.
    pub uptime: Option<u64>,
    /// The way there.
    pub stages: StartTimings,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Virtual CPUs.
    pub vcpus: u64,
    /// The guest's memory in bytes.
    pub memory: u64,
    /// The guest's memory target since an update, bytes.
    pub memory_wanted: Option<u64>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Directories from the host.
    pub shares: Vec<Share>,
    /// Version of the program that serves the shares.
    pub virtiofsd: Option<String>,
    /// The guest's addresses, as seen from the container.
    pub guest_addresses: Vec<String>,
    /// The container's addresses, as seen from outside: the way to the guest.
    pub container_addresses: Vec<String>,
}

impl Status {
    /// Assembles the status from the supervisor's configuration and its mark at `mark`.
    ///
    /// # Errors
    /// When the domain is not XML.
    pub fn new(config: &SupervisorConfig, mark: &Path) -> Result<Self> {
        let mut status = domain::parse(&config.domain)?;
        let shares = config.virtiofs.iter();
        status.shares = shares.map(|v| Share { target: v.target.clone(), read_only: v.read_only }).collect();
        if let Some(mark) = Mark::read(mark) {
            (status.state, status.reason) = (mark.state, mark.reason);
            status.uptime = Some(now().as_secs().saturating_sub(mark.started));
            status.stages = mark.stages;
        }
        for disk in &mut status.disks {
            use std::os::unix::fs::MetadataExt;
            disk.allocated = Path::new(&disk.source).metadata().ok().filter(|m| m.is_file()).map(|m| m.blocks() * 512);
        }
        Ok(status)
    }

    /// The status as a table for people.
    pub fn table(&self) -> String {
        let state = serde_json::to_value(self.state).ok();
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let wanted = self.memory_wanted.map(|n| format!(", {} wanted", size(n))).unwrap_or_default();
        let mut rows = vec![
            ("name", self.name.clone()),
            ("state", state.as_ref().and_then(|s| s.as_str()).unwrap_or_default().to_owned() + &reason),
            ("uptime", self.uptime.map_or_else(|| "-".into(), time)),
            ("accelerator", self.accelerator.clone()),
            ("vcpus", self.vcpus.to_string()),
            ("memory", size(self.memory) + &wanted),
        ];
        for disk in &self.disks {
            let mode = if disk.read_only { "read-only" } else { "writable" };
            let allocated = disk.allocated.map(|n| format!(" {} allocated", size(n))).unwrap_or_default();
            rows.push(("disk", format!("{} {} {mode} {}{allocated}", disk.name, disk.format, disk.source)));
        }
        for share in &self.shares {
            rows.push((
                "share",
                format!("{} {}", share.target, if share.read_only { "read-only" } else { "writable" }),
            ));
        }
        rows.extend(self.virtiofsd.iter().map(|version| ("virtiofsd", version.clone())));
        rows.extend(self.guest_addresses.iter().map(|address| ("guest", address.clone())));
        rows.extend(self.container_addresses.iter().map(|address| ("container", address.clone())));
        rows.iter().fold(String::new(), |mut text, (name, value)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<12} {}", OneLine(value));
            text
        })
    }
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `1d 02:03:04`.
fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {clock}") } else { clock }
}

fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return format!("{} {unit}", (size * 10.0).round() / 10.0);
        }
        size /= 1024.0;
    }
    format!("{} TiB", (size * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crun_qemu::handoff::supervisor_config::Virtiofs;

    const DOMAIN: &str = r#"<domain type="qemu"><name>ab</name><memory unit="b">805306368</memory><vcpu>2</vcpu>
        <devices><disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="/nowhere/x&amp;y"/>
        <backingStore type="file"><format type="raw"/><source file="/image"/><backingStore/></backingStore>
        <target dev="vda" bus="virtio"/></disk><disk><driver type="raw"/><source dev="/dev/y"/><target dev="vdb"/>
        <readonly/></disk></devices></domain>"#;

    #[test]
    fn as_a_table_and_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status");
        let config = SupervisorConfig {
            domain: DOMAIN.into(),
            virtiofs: vec![Virtiofs { dir: "/d".into(), socket: "/s".into(), target: "/srv".into(), read_only: true }],
            ..SupervisorConfig::default()
        };
        assert_eq!(Status::new(&config, &path).unwrap().state, State::Starting);
        let mut stages = StartTimings { supervisor: Some(7), ..StartTimings::default() };
        StartTimings::stamp(&mut stages.supervisor);
        let reason = Some("disk vda: the host's storage is full".into());
        Mark { state: State::Paused, reason, started: now().as_secs() - 90_061, stages }.leave(&path).unwrap();
        let mut status = Status::new(&config, &path).unwrap();
        assert!((90_061..90_100).contains(&status.uptime.unwrap()));
        (status.uptime, status.memory_wanted) = (Some(90_061), Some(256 << 20));
        status.disks[0].allocated = Some(1536);
        status.virtiofsd = Some("1.2".into());
        status.guest_addresses.push("10.0.99.2".into());
        status.container_addresses.push("10.88.0.2".into());
        // An image names its volumes as it likes.
        status.shares.push(Share { target: "/\n\x1b[2J".into(), read_only: false });
        let table = "name         ab
state        paused (disk vda: the host's storage is full)
uptime       1d 01:01:01
accelerator  tcg
vcpus        2
memory       768 MiB, 256 MiB wanted
disk         vda qcow2 writable /nowhere/x&y 1.5 KiB allocated
disk         vdb raw read-only /dev/y
share        /srv read-only
share        /\\n\\u{1b}[2J writable
virtiofsd    1.2
guest        10.0.99.2
container    10.88.0.2
";
        assert_eq!(status.table(), table);
        let json = concat!(
            r#"{"name":"ab","state":"paused","reason":"disk vda: the host's storage is full","uptime":90061,"#,
            r#""stages":{"create":null,"created":null,"supervisor":7,"libvirt":null,"qemu":null,"console":null},"accelerator":"tcg","vcpus":2,"#,
            r#""memory":805306368,"memory_wanted":268435456,"disks":[{"name":"vda","source":"/nowhere/x&y","format":"qcow2","read_only":false,"#,
            r#""allocated":1536},{"name":"vdb","source":"/dev/y","format":"raw","read_only":true,"allocated":null}],"#,
            r#""shares":[{"target":"/srv","read_only":true},{"target":"/\n\u001b[2J","read_only":false}],"virtiofsd":"1.2","#,
            r#""guest_addresses":["10.0.99.2"],"container_addresses":["10.88.0.2"]}"#
        );
        assert_eq!(serde_json::to_string(&status).unwrap(), json);
    }
}
