//! crun's structs, built from JSON as crun's parser builds them.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use serde_json::{Value, json};

use super::layout::Layout;
use super::layout::Present::{self, Interleaved, Trailing};
use super::sys::*;

/// Memory that is never freed; crun frees its own.
pub fn leak<T>(value: T) -> *mut T {
    Box::leak(Box::new(value))
}

/// Allocates as crun's calloc does: zeros between the members, and the size of the next block behind them.
fn calloc<T>(fill: impl FnOnce(&mut T)) -> *mut c_void {
    const NEXT: u64 = 0x51;
    let words = size_of::<T>().div_ceil(8);
    let block = Box::leak(vec![0_u64; words + 8].into_boxed_slice());
    block[words] = NEXT;
    let at: *mut T = block.as_mut_ptr().cast();
    // SAFETY: the block is aligned and large enough, and zeros are a value of crun's structs.
    fill(unsafe { &mut *at });
    at.cast()
}

fn list<T>(from: Vec<*mut T>) -> *mut *mut T {
    if from.is_empty() { ptr::null_mut() } else { Box::leak(from.into_boxed_slice()).as_mut_ptr() }
}

fn c(value: &Value) -> *mut c_char {
    value.as_str().map_or(ptr::null_mut(), |s| CString::new(s).unwrap().into_raw())
}

fn c_list(value: &Value) -> (*mut *mut c_char, usize) {
    let items: Vec<_> = value.as_array().into_iter().flatten().map(c).collect();
    (list(items.clone()), items.len())
}

fn rule(present: Present, v: &Value) -> *mut c_void {
    let (allow, type_, access) = (v["allow"] == json!(true), c(&v["type"]), c(&v["access"]));
    let (major, minor) = (v["major"].as_i64(), v["minor"].as_i64());
    match present {
        Interleaved => leak(crun_device_rule_interleaved {
            allow: allow.into(),
            allow_present: v["allow"].is_boolean().into(),
            type_,
            major: major.unwrap_or(0),
            major_present: major.is_some().into(),
            minor: minor.unwrap_or(0),
            minor_present: minor.is_some().into(),
            access,
            ..Default::default()
        })
        .cast(),
        Trailing => leak(crun_device_rule_trailing {
            allow: allow.into(),
            type_,
            major: major.unwrap_or(0),
            minor: minor.unwrap_or(0),
            access,
            present: u8::from(v["allow"].is_boolean())
                | u8::from(major.is_some()) << 1
                | u8::from(minor.is_some()) << 2,
            ..Default::default()
        })
        .cast(),
    }
}

fn memory(present: Present, v: &Value) -> *mut c_void {
    if !v.is_object() {
        return ptr::null_mut();
    }
    let bit = |name: &str| u8::from(!v[name].is_null());
    let number = |name: &str| v[name].as_i64().unwrap_or(0);
    let killer = u8::from(v["disableOOMKiller"] == json!(true));
    match present {
        Interleaved => calloc(|m: &mut crun_memory_interleaved| {
            (m.limit, m.limit_present) = (number("limit"), bit("limit"));
            (m.reservation, m.reservation_present) = (number("reservation"), bit("reservation"));
            (m.swap, m.swap_present) = (number("swap"), bit("swap"));
            (m.swappiness, m.swappiness_present) = (number("swappiness") as u64, bit("swappiness"));
            (m.disable_oom_killer, m.disable_oom_killer_present) = (killer, bit("disableOOMKiller"));
        }),
        Trailing => calloc(|m: &mut crun_memory_trailing| {
            (m.limit, m.reservation, m.swap) = (number("limit"), number("reservation"), number("swap"));
            (m.swappiness, m.disable_oom_killer) = (number("swappiness") as u64, killer);
            let bits = ["limit", "reservation", "swap", "swappiness", "disableOOMKiller"].into_iter();
            m.present[0] = bits.zip(2..).fold(0, |all, (name, n)| all | bit(name) << n);
        }),
    }
}

/// A string map, in another order than in the JSON.
fn map(v: &Value) -> *mut crun_map {
    let Some(entries) = v.as_object() else { return ptr::null_mut() };
    let (keys, values): (Vec<_>, Vec<_>) = entries.iter().rev().map(|(k, v)| (c(&json!(k)), c(v))).unzip();
    leak(crun_map { len: keys.len(), keys: list(keys), values: list(values) })
}

/// A `linux` with these resources. With `made`, the other members are set as in a container; without, they are zero, as
/// in an update.
pub fn linux(layout: &Layout, resources: *mut crun_resources, made: Option<Vec<*mut crun_device>>) -> *mut crun_linux {
    let words = size_of::<crun_linux_with_net_devices>() / size_of::<usize>();
    let block = Box::leak(vec![0_usize; words + 8].into_boxed_slice());
    let at = layout.resources / size_of::<usize>();
    block[at] = resources as usize;
    let common: *mut crun_linux = block.as_mut_ptr().cast();
    if let Some(made) = made {
        // The namespaces precede the resources, and the cgroup's path follows them.
        block[at - 2] = list(vec![leak(0_u64)]) as usize;
        block[at - 1] = 1;
        block[at + 1] = c(&json!("user.slice:crun:vm")) as usize;
        // SAFETY: the block begins with the struct.
        unsafe { *common = crun_linux { devices_len: made.len(), devices: list(made) } };
    }
    common
}

/// The pointer in `linux` to its resources.
pub fn resources(layout: &Layout, def: *mut crun_config) -> *mut crun_resources {
    // SAFETY: built by the test.
    layout.resources(unsafe { (*def).linux_ }).unwrap()
}

/// `v` parsed by a crun with that layout.
pub fn build(layout: &Layout, v: &Value) -> *mut crun_config {
    let mounts = v["mounts"].as_array().unwrap().iter().map(|m| {
        let (options, options_len) = c_list(&m["options"]);
        let (source, destination, type_) = (c(&m["source"]), c(&m["destination"]), c(&m["type"]));
        leak(crun_mount { source, destination, type_, options, options_len, ..Default::default() })
    });
    let mounts: Vec<_> = mounts.collect();
    let (args, args_len) = c_list(&v["process"]["args"]);
    let (env, env_len) = c_list(&v["process"]["env"]);
    let cwd = c(&v["process"]["cwd"]);
    let process = leak(crun_process { args, args_len, env, env_len, cwd, ..Default::default() });
    let root = leak(crun_root { path: c(&v["root"]["path"]), readonly: (v["root"]["readonly"] == json!(true)).into() });
    let rules: Vec<_> = v["linux"]["resources"]["devices"].as_array().into_iter().flatten().collect();
    let rules: Vec<_> = rules.into_iter().map(|v| rule(layout.present, v)).collect();
    let resources = match v["linux"]["resources"].is_object() {
        true => leak(crun_resources {
            unified: map(&v["linux"]["resources"]["unified"]),
            devices_len: rules.len(),
            devices: list(rules),
            memory: memory(layout.present, &v["linux"]["resources"]["memory"]),
            ..Default::default()
        }),
        false => ptr::null_mut(),
    };
    let made = v["linux"]["devices"].as_array().into_iter().flatten();
    let made: Vec<_> = made.map(|d| leak(crun_device { type_: c(&d["type"]), path: c(&d["path"]) })).collect();
    let linux_ = linux(layout, resources, Some(made));
    let (mounts_len, mounts, oci_version) = (mounts.len(), list(mounts), c(&v["ociVersion"]));
    leak(crun_config { oci_version, mounts, mounts_len, root, process, linux_, ..Default::default() })
}
