//! YAML as Helm reads and writes it. Pure: text in, values out, and back.

mod emit;
mod parse;
mod scalar;

pub use emit::to_yaml;
pub use parse::parse;
