//! Generates the list of platform names from `bundled-manifests/platforms`, so that a new platform needs no code.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../bundled-manifests/platforms");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("platforms.rs"), format!("&{names:?}"))?;
    Ok(())
}
