//! Embeds the platforms and the add-ons in the binary. They are separate files, so that adding one needs little code.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let manifests = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../bundled-manifests");
    let platforms = files(&manifests.join("platforms"))?;
    let name = |path: &str| path.strip_suffix(".yaml").map(str::to_owned);
    write("platforms.rs", platforms.iter().filter_map(|(path, file)| Some((name(path)?, file))))?;
    write("add_ons.rs", files(&manifests.join("addons"))?.iter().map(|(path, file)| (path.clone(), file)))
}

/// Returns all files in a directory, by relative path.
fn files(root: &Path) -> Result<BTreeMap<String, PathBuf>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        println!("cargo::rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root)?.to_string_lossy().into_owned(), path);
            }
        }
    }
    Ok(found)
}

/// Writes a table of names and contents.
fn write<'a>(name: &str, files: impl Iterator<Item = (String, &'a PathBuf)>) -> Result<(), Box<dyn Error>> {
    let mut table = "&[".to_owned();
    for (name, path) in files {
        write!(table, "({name:?}, include_str!({:?})),", path.to_string_lossy())?;
    }
    table.push(']');
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join(name), table)?;
    Ok(())
}
