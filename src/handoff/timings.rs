//! The stages of a VM's start, for `status --json` and for measuring.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// When the VM's start got how far, each in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StartTimings {
    /// crun, or the runtime, asked for the VM.
    pub create: Option<u64>,
    /// Everything of the VM's was made.
    pub created: Option<u64>,
    /// The supervisor was executed.
    pub supervisor: Option<u64>,
    /// libvirt's driver was ready.
    pub libvirt: Option<u64>,
    /// QEMU was there and ran the virtual CPUs.
    pub qemu: Option<u64>,
    /// The console's first byte came.
    pub console: Option<u64>,
}

impl StartTimings {
    /// Sets the time of a stage to now, unless it is set.
    pub fn stamp(stage: &mut Option<u64>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        stage.get_or_insert(now.as_micros() as u64);
    }
}
