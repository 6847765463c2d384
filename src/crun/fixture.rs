//! crun's structs built by hand, from the JSON that crun would have parsed.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use serde_json::{Value, json};

use super::proof::DeviceLayout::{self, Interleaved, Trailing};
use super::sys::*;

/// Memory for the test's whole life: crun's would be freed by crun.
pub fn leak<T>(value: T) -> *mut T {
    Box::leak(Box::new(value))
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

fn rule(layout: DeviceLayout, v: &Value) -> *mut c_void {
    let (allow, type_, access) = (v["allow"] == json!(true), c(&v["type"]), c(&v["access"]));
    let (major, minor) = (v["major"].as_i64(), v["minor"].as_i64());
    match layout {
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

fn memory(layout: DeviceLayout, v: &Value) -> *mut c_void {
    if !v.is_object() {
        return ptr::null_mut();
    }
    let bit = |name: &str| u8::from(!v[name].is_null());
    let number = |name: &str| v[name].as_i64().unwrap_or(0);
    match layout {
        Interleaved => leak(crun_memory_interleaved {
            // What the compiler has in the other bits of such a byte is nobody's business.
            limit_present: bit("limit") | 0x80,
            limit: number("limit"),
            reservation: number("reservation"),
            reservation_present: bit("reservation"),
            swap: number("swap"),
            swap_present: bit("swap"),
            swappiness: number("swappiness") as u64,
            swappiness_present: bit("swappiness"),
            disable_oom_killer: (v["disableOOMKiller"] == json!(true)).into(),
            disable_oom_killer_present: bit("disableOOMKiller"),
            ..Default::default()
        })
        .cast(),
        Trailing => leak(crun_memory_trailing {
            limit: number("limit"),
            reservation: number("reservation"),
            swap: number("swap"),
            swappiness: number("swappiness") as u64,
            disable_oom_killer: (v["disableOOMKiller"] == json!(true)).into(),
            present: [
                bit("limit") << 2
                    | bit("reservation") << 3
                    | bit("swap") << 4
                    | bit("swappiness") << 5
                    | bit("disableOOMKiller") << 6,
                0,
            ],
            ..Default::default()
        })
        .cast(),
    }
}

/// In another order than the JSON's.
fn map(v: &Value) -> *mut crun_map {
    let Some(entries) = v.as_object() else { return ptr::null_mut() };
    let (keys, values): (Vec<_>, Vec<_>) = entries.iter().rev().map(|(k, v)| (c(&json!(k)), c(v))).unzip();
    leak(crun_map { len: keys.len(), keys: list(keys), values: list(values) })
}

/// `v` parsed by a crun with rules of that layout.
pub fn build(layout: DeviceLayout, v: &Value) -> *mut crun_config {
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
    let rules: Vec<_> = rules.into_iter().map(|v| rule(layout, v)).collect();
    let resources = match v["linux"]["resources"].is_object() {
        true => leak(crun_resources {
            unified: map(&v["linux"]["resources"]["unified"]),
            devices_len: rules.len(),
            devices: list(rules),
            memory: memory(layout, &v["linux"]["resources"]["memory"]),
            ..Default::default()
        }),
        false => ptr::null_mut(),
    };
    let made = v["linux"]["devices"].as_array().into_iter().flatten();
    let made: Vec<_> = made.map(|d| leak(crun_device { type_: c(&d["type"]), path: c(&d["path"]) })).collect();
    let linux_ = leak(crun_linux { devices_len: made.len(), devices: list(made), resources, ..Default::default() });
    let (mounts_len, mounts, oci_version) = (mounts.len(), list(mounts), c(&v["ociVersion"]));
    leak(crun_config { oci_version, mounts, mounts_len, root, process, linux_, ..Default::default() })
}
