//! Generates both directions of the C ABI.

use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=src/ffi.rs");
    declarations(&out)?;
    header(&root)?;
    Ok(())
}

/// Rust's view of crun's structs.
fn declarations(out: &Path) -> Result<()> {
    println!("cargo:rerun-if-changed=include/crun.h");
    bindgen::Builder::default()
        .header("include/crun.h")
        .allowlist_type("crun_.*")
        .default_enum_style(bindgen::EnumVariation::Rust { non_exhaustive: false })
        .derive_default(true)
        .generate()?
        .write_to_file(out.join("crun.rs"))?;
    Ok(())
}

/// C's view of our exports. It is committed, so that a change of the ABI shows in review; an unchanged one is not
/// touched, for a source tree may be read-only.
fn header(root: &Path) -> Result<()> {
    println!("cargo:rerun-if-changed=include/crun_qemu.h");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let mut text = Vec::new();
    cbindgen::Builder::new().with_config(config).with_src(root.join("src/ffi.rs")).generate()?.write(&mut text);
    let path = root.join("include/crun_qemu.h");
    if fs::read(&path).ok().as_deref() != Some(&text[..]) {
        fs::write(path, text)?;
    }
    Ok(())
}
