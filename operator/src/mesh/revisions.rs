//! Control plane revisions, and which objects belong to one revision.
//!
//! A spec is rendered for one revision into a list of objects, each with its component. [`MeshPart`] separates the
//! objects that all revisions share, those of one control plane, and those of a tag, which moves from one revision to
//! another.

use std::sync::Arc;

use meshwright_api::MeshInstallationSpec;
use semver::Version;

use super::object::{Component, DesiredObject};

/// The label value of the default revision, and the name of the tag for it.
pub const DEFAULT: &str = "default";
/// The label by which pods and namespaces select a revision or tag.
pub const REVISION_LABEL: &str = "istio.io/rev";
/// The label by which namespaces select the default revision or disable injection.
pub const INJECTION_LABEL: &str = "istio-injection";
/// The label of objects that belong to a tag.
pub const TAG_LABEL: &str = "istio.io/tag";
/// A Helm release name has at most 53 characters, and the release is named `istiod-<revision>`.
const MAX_REVISION_LENGTH: usize = 46;

/// A revision of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// The revision without a name, selected by `istio-injection=enabled` unless a tag `default` exists.
    Default,
    /// A revision with a name.
    Named(String),
}

impl Revision {
    /// The revision in `spec.revision`.
    #[must_use]
    pub fn of(spec: &MeshInstallationSpec) -> Self {
        spec.revision.clone().map_or(Self::Default, Self::Named)
    }

    /// The revision that the operator names after a release: `1.32.0-lab.1` becomes `1-32-0-lab-1`.
    #[must_use]
    pub fn automatic(version: &Version) -> Self {
        let name: String = version
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(MAX_REVISION_LENGTH)
            .collect();
        Self::Named(name.trim_end_matches('-').to_owned())
    }

    /// The name; `None` for the default revision.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }

    /// The value of the label [`REVISION_LABEL`].
    #[must_use]
    pub fn label(&self) -> &str {
        self.name().unwrap_or(DEFAULT)
    }

    /// The name of one of its objects, as Istio's charts build it: `istiod`, `istiod-canary`.
    #[must_use]
    pub fn object_name(&self, base: &str) -> String {
        self.name().map_or_else(|| base.to_owned(), |name| format!("{base}-{name}"))
    }
}

/// Which part of a mesh an object belongs to, when several revisions exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MeshPart {
    /// Shared by all revisions: namespaces, CRDs, the ServiceAccount of remote readers.
    Shared,
    /// One control plane: istiod with its RBAC, configuration and webhooks.
    ControlPlane,
    /// istio-cni and ztunnel, of which a cluster has one each.
    Nodes,
    /// A tag, which points to one revision at a time.
    Tags,
    /// A gateway, which uses one revision.
    Gateways,
    /// Add-ons, which are independent of revisions.
    AddOns,
}

impl MeshPart {
    /// The part of the given component.
    #[must_use]
    pub const fn of(component: &Component) -> Self {
        match component {
            Component::Namespaces | Component::Base => Self::Shared,
            Component::Istiod => Self::ControlPlane,
            Component::Cni | Component::Ztunnel => Self::Nodes,
            Component::Tag(_) => Self::Tags,
            Component::Gateway(_) => Self::Gateways,
            Component::AddOn(_) => Self::AddOns,
        }
    }
}

/// The objects of one part.
pub fn objects_of_part(desired: &[Arc<DesiredObject>], part: MeshPart) -> impl Iterator<Item = &Arc<DesiredObject>> {
    desired.iter().filter(move |object| MeshPart::of(&object.component) == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_revision_is_dns_label_of_version() {
        let automatic = |version: &str| Revision::automatic(&version.parse().unwrap());
        assert_eq!(automatic("1.32.0-lab.1"), Revision::Named("1-32-0-lab-1".into()));
        assert_eq!(automatic("1.31.2"), Revision::Named("1-31-2".into()));
        assert_eq!(automatic("1.32.0-RC.1").label(), "1-32-0-rc-1");
        let long = automatic(&format!("1.32.0-{}.{}", "a".repeat(38), "b".repeat(9)));
        assert_eq!(long.label(), format!("1-32-0-{}", "a".repeat(38)), "no trailing hyphen");
    }

    #[test]
    fn only_named_revision_is_in_object_names() {
        assert_eq!(
            (Revision::Default.object_name("istiod").as_str(), Revision::Default.label()),
            ("istiod", "default")
        );
        let canary = Revision::Named("canary".into());
        assert_eq!((canary.object_name("istiod").as_str(), canary.label()), ("istiod-canary", "canary"));
    }
}
