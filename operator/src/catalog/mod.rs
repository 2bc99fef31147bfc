//! The release catalog: which Istio releases are available, what is known about them, and their charts.
//!
//! A catalog is a directory with a subdirectory for each release:
//!
//! ```text
//! <catalog>/<version>/release.yaml              version, source, images, and the digest of each chart
//! <catalog>/<version>/charts/<chart>/...        base, istiod, gateway, cni, ztunnel
//! ```
//!
//! Three modules add releases: `import` (from a directory), `bundle` (from an archive; it writes archives too) and
//! `oci` (from a registry; the only one that uses the network). All of them write through `put`. `store` and `release`
//! read a catalog, `files` reads chart directories. The other modules do no I/O: `facts`, `gateway_api` and `profiles` are
//! compiled in, `stamp` sets version, hub and tag, `assemble` validates charts, `archive` packs and unpacks, `image_list` lists
//! images, `crds` lists the CRDs of a chart, `release_file` is the format of `release.yaml`, `sources` parses the
//! operator's `--catalog`.

mod archive;
pub(crate) mod assemble;
pub(crate) mod bundle;
mod chart_name;
mod crds;
pub(crate) mod digest;
pub(crate) mod facts;
mod files;
pub(crate) mod gateway_api;
pub(crate) mod image_list;
pub(crate) mod import;
mod minor;
pub(crate) mod oci;
mod profiles;
mod put;
pub(crate) mod release;
pub(crate) mod release_file;
pub(crate) mod sources;
mod stamp;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod tests;
mod yaml;

pub use chart_name::ChartName;
pub use digest::Digest;
pub use facts::ReleaseFacts;
pub use profiles::Profile;
pub use release::Release;
pub use release_file::ReleaseImages;
pub use store::Catalog;
pub(crate) use yaml::parse as parse_yaml;

/// Formats an error and its causes in one line; skips a cause whose text its parent already includes.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
