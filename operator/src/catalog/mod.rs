//! Releases: which ones there are, what is known about them, and their charts.
//!
//! A catalog is a directory with one folder per release:
//!
//! ```text
//! <catalog>/<version>/release.yaml              what it is, where it came from, a digest per chart
//! <catalog>/<version>/charts/<chart>/...        base, istiod, gateway, cni, ztunnel
//! ```
//!
//! A release comes into a catalog from a folder ([`import`]), from a file ([`bundle`], which writes such files too) or from
//! a registry ([`oci`], which alone uses the network), always through [`put`], which alone writes into catalogs. Catalogs
//! are read by [`store`] and [`release`], folders through [`files`]. The rest is pure: [`facts`] and [`profiles`] come with
//! the program, [`stamp`] edits text, [`assemble`] says what a release is, [`archive`] packs and unpacks, [`image_list`]
//! tells the images, [`definitions`] lists what a chart brings, [`release_file`] is a format, [`place`] says where an operator's releases come from. Nothing here talks to a cluster or reads a clock.

mod archive;
pub mod assemble;
pub mod bundle;
pub mod chart_name;
pub mod definitions;
pub mod digest;
pub mod facts;
mod files;
pub mod image_list;
pub mod import;
mod minor;
pub mod oci;
pub mod place;
pub mod profiles;
pub mod put;
pub mod release;
pub mod release_file;
mod stamp;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;
mod yaml;

pub use chart_name::ChartName;
pub use digest::Digest;
pub use facts::Facts;
pub use profiles::Profile;
pub use release::Release;
pub use store::Catalog;
pub(crate) use yaml::parse as parse_yaml;

/// An error with its causes, in one line; a cause that its parent's text has already is not said twice.
pub fn explain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
