//! Takes the platforms into the program: one file each, so that adding one needs no code.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../bundled-manifests/platforms");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml")
            && let Some(name) = path.file_stem()
        {
            files.insert(name.to_string_lossy().into_owned(), path.to_string_lossy().into_owned());
        }
    }
    let mut table = "&[".to_owned();
    for (name, path) in files {
        write!(table, "({name:?}, include_str!({path:?})),")?;
    }
    table.push(']');
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("platforms.rs"), table)?;
    Ok(())
}
