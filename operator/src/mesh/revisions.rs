//! Revisions of the control plane, and the parts that a mesh falls into by who of several revisions they belong to.
//!
//! What is rendered of one spec for one revision is a list of objects, each with its component. [`Part`] says which of them
//! all revisions share, which are one control plane's own, and which stand for a name that moves from one to another; two
//! renders of a spec with two revisions are put together by [`of_part`].

use std::sync::Arc;

use meshwright_api::MeshInstallationSpec;
use semver::Version;

use super::object::{Component, Desired};

/// The name of the default revision, in labels, and of the tag that stands for it.
pub const DEFAULT: &str = "default";
/// The label by which pods and namespaces ask for a revision or tag.
pub const REVISION_LABEL: &str = "istio.io/rev";
/// The label of namespaces that ask for the default, or to be left alone.
pub const INJECTION_LABEL: &str = "istio-injection";
/// The label of objects that are there for a tag.
pub const TAG_LABEL: &str = "istio.io/tag";
/// Longest name of a revision: the Helm release `istiod-<revision>` has at most 53 characters.
const LONGEST: usize = 46;

/// A revision of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// The one without a name, which `istio-injection=enabled` means unless a tag says otherwise.
    Default,
    /// One with a name.
    Named(String),
}

impl Revision {
    /// The revision that a spec asks for.
    #[must_use]
    pub fn of(spec: &MeshInstallationSpec) -> Self {
        spec.revision.clone().map_or(Self::Default, Self::Named)
    }

    /// The revision of a release where the operator chooses its name: `1.32.0-lab.1` is `1-32-0-lab-1`.
    #[must_use]
    pub fn automatic(version: &Version) -> Self {
        let name: String = version
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(LONGEST)
            .collect();
        Self::Named(name.trim_end_matches('-').to_owned())
    }

    /// The name, if it has one.
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

    /// The name of one of its objects, as Istio's charts make it: `istiod`, `istiod-canary`.
    #[must_use]
    pub fn of_object(&self, base: &str) -> String {
        self.name().map_or_else(|| base.to_owned(), |name| format!("{base}-{name}"))
    }
}

/// Whose of several revisions an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Of all: namespaces, CRDs, the account of readers from other clusters.
    Shared,
    /// Of one: istiod, its rights, configuration and webhooks.
    ControlPlane,
    /// Of the cluster's nodes: cni and ztunnel, of which there is one.
    Nodes,
    /// Of a tag, which stands for one of them at a time.
    Tags,
    /// A gateway, which asks for one of them.
    Gateways,
    /// Of none: add-ons look at all.
    AddOns,
}

impl Part {
    /// The part that a component belongs to.
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
pub fn of_part(desired: &[Arc<Desired>], part: Part) -> impl Iterator<Item = &Arc<Desired>> {
    desired.iter().filter(move |object| Part::of(&object.component) == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automatic_revision_is_a_dns_label_made_of_the_version() {
        let automatic = |version: &str| Revision::automatic(&version.parse().unwrap());
        assert_eq!(automatic("1.32.0-lab.1"), Revision::Named("1-32-0-lab-1".into()));
        assert_eq!(automatic("1.31.2"), Revision::Named("1-31-2".into()));
        assert_eq!(automatic("1.32.0-RC.1").label(), "1-32-0-rc-1");
        let long = automatic(&format!("1.32.0-{}.{}", "a".repeat(38), "b".repeat(9)));
        assert_eq!(long.label(), format!("1-32-0-{}", "a".repeat(38)), "it ends with no hyphen");
    }

    #[test]
    fn only_a_named_revision_is_in_the_names_of_objects() {
        assert_eq!((Revision::Default.of_object("istiod").as_str(), Revision::Default.label()), ("istiod", "default"));
        let canary = Revision::Named("canary".into());
        assert_eq!((canary.of_object("istiod").as_str(), canary.label()), ("istiod-canary", "canary"));
    }
}
