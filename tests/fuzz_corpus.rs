//! The fuzz targets (`make fuzz`) with the committed corpus, as ordinary tests, and checks that are too slow for every
//! input: whether libvirt, QEMU and Python's mail reader, which cloud-init uses, read documents and images alike.

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crun_qemu::first_boot::user_data::merge;
use crun_qemu::host::image::Format;
use serde_json::Value;
use virt::connect::Connect;
use virt::sys::VIR_DOMAIN_DEFINE_VALIDATE;

/// The corpus. `FUZZ_CORPUS` names another one, such as fuzz/target/corpus.
fn corpus() -> PathBuf {
    let other = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from);
    other.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus"))
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn inputs(target: &str) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    entries(&corpus().join(target)).into_iter().map(|path| {
        let data = fs::read(&path).unwrap();
        (path, data)
    })
}

/// The message names the input that fails.
#[test]
fn every_target_handles_its_inputs() {
    for (name, run) in targets::ALL {
        let mut count = 0;
        for (path, data) in inputs(name) {
            let outcome = std::panic::catch_unwind(|| run(&data));
            assert!(outcome.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count > 3, "{name}: {count} inputs");
    }
}

#[test]
fn every_directory_belongs_to_a_target() {
    for dir in entries(&corpus()) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(targets::named(name).is_some(), "{name}");
    }
}

/// libvirt's test driver does not accept descriptors for files.
fn without_descriptors(xml: &str) -> String {
    let mut parts = xml.split(" fdgroup=\"");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |xml, part| xml + part.split_once('"').map_or("", |(_, rest)| rest))
}

/// libvirt's schema and parser accept all domains. Its test driver knows one type of domain.
#[test]
fn libvirt_accepts_every_domain() {
    assert!(targets::relaxng::is_there(), "libvirt's schemas are missing");
    virt::error::clear_error_callback();
    let libvirt = Connect::open(Some("test:///default")).unwrap();
    let mut accepted = 0;
    for (path, data) in inputs("domain") {
        let Some((knob, config)) = data.split_first() else { continue };
        let Ok(config) = std::str::from_utf8(config) else { continue };
        let Some((_, plan)) = targets::vm::plan_of((*knob).into(), config) else { continue };
        let xml = targets::vm::domain_of(&plan);
        targets::relaxng::validate(&xml).unwrap_or_else(|why| panic!("{}: {why}: {xml}", path.display()));
        let xml = ["kvm", "qemu"]
            .iter()
            .fold(xml, |xml, kind| xml.replacen(&format!("<domain type=\"{kind}\""), "<domain type=\"test\"", 1));
        let xml = without_descriptors(&xml);
        let defined = libvirt.define_domain_xml_flags(&xml, VIR_DOMAIN_DEFINE_VALIDATE);
        let defined = defined.unwrap_or_else(|e| panic!("{}: {e}: {xml}", path.display()));
        assert_eq!((defined.name().unwrap(), defined.uuid_string().unwrap()), (plan.name, plan.uuid));
        accepted += 1;
    }
    assert!(accepted > 5, "only {accepted} of them are VMs");
}

/// Reads messages as cloud-init does, and prints the types and contents of their parts.
const READER: &str = r#"
import email, json, sys
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    assert b"mime-version:" in data[:4096].lower()
    message = email.message_from_string(data.decode("utf-8"))
    parts = message.get_payload()
    content = lambda part: list(part.get_payload(decode=True) or b"")
    print(json.dumps([[part.get_content_type(), content(part)] for part in parts]))
"#;

#[test]
fn mail_reader_finds_all_user_data() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIP: mail_reader_finds_all_user_data: python3 is not installed");
        return;
    }
    const OWN: &str = "#cloud-config\n{}\n";
    let dir = tempfile::tempdir().unwrap();
    let mut merged = Vec::new();
    for (n, (path, data)) in inputs("user_data").enumerate() {
        match merge(&data, OWN) {
            Ok(message) if message != OWN.as_bytes() => {
                let file = dir.path().join(n.to_string());
                fs::write(&file, message).unwrap();
                merged.push((path, data, file));
            }
            _ => {}
        }
    }
    let files = merged.iter().map(|(_, _, file)| file);
    let output = Command::new("python3").args(["-c", READER]).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(merged.len() > 5 && lines.lines().count() == merged.len());
    for (line, (path, data, _)) in lines.lines().zip(&merged) {
        let parts: Value = serde_json::from_str(line).unwrap();
        let part = |n: usize| (parts[n][0].as_str(), serde_json::from_value::<Vec<u8>>(parts[n][1].clone()).unwrap());
        assert_eq!(parts.as_array().map(Vec::len), Some(2), "{}", path.display());
        assert_eq!(part(1), (Some("text/cloud-config"), OWN.as_bytes().to_vec()), "{}", path.display());
        // User-data that is not a message itself arrives unchanged.
        if data.starts_with(b"#") {
            assert_eq!(part(0), (Some("text/plain"), data.clone()), "{}", path.display());
        }
    }
}

/// QEMU reads the same from each accepted qcow2 image; above all, the image names no other file.
#[test]
fn qemu_reads_the_same_headers() {
    let dir = tempfile::tempdir().unwrap();
    let (image, mut equal) = (dir.path().join("image"), 0);
    for (path, data) in inputs("qcow2") {
        let Some((disk, bytes)) = targets::image_of(&data) else { continue };
        if disk.format != Format::Qcow2 {
            continue;
        }
        fs::write(&image, bytes).unwrap();
        let info =
            Command::new("qemu-img").args(["info", "--output=json", "-f", "qcow2"]).arg(&image).output().unwrap();
        let Ok(info) = serde_json::from_slice::<Value>(&info.stdout) else { continue };
        assert_eq!(info["virtual-size"], disk.virtual_size, "{}", path.display());
        let other = ["backing-filename", "full-backing-filename", "encrypted"].map(|key| info.get(key));
        assert_eq!((other, info["format-specific"]["data"].get("data-file")), ([None; 3], None), "{}", path.display());
        equal += 1;
    }
    assert!(equal > 5, "only {equal}");
}
