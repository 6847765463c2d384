//! Generates Rust's view of crun's structs.

use std::env;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=include/crun.h");
    bindgen::Builder::default()
        .header("include/crun.h")
        .allowlist_type("crun_.*")
        .default_enum_style(bindgen::EnumVariation::Rust { non_exhaustive: false })
        .derive_default(true)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("crun.rs"))?;
    Ok(())
}
