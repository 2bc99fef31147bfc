//! The manually written part of the bundle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The content of `config/olm/base/base.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// The package name in catalogs.
    pub package: String,
    /// The display name.
    pub display_name: String,
    /// The channels of the bundle.
    pub channels: Vec<String>,
    /// The channel of subscriptions that set none.
    pub default_channel: String,
    /// The maturity: `alpha`, `beta` or `stable`.
    pub maturity: String,
    /// The capability level of the Operator Framework.
    pub capabilities: String,
    /// The catalogs' categories, separated by commas.
    pub categories: String,
    /// The search keywords.
    pub keywords: Vec<String>,
    /// The creation time of the first bundle (RFC 3339).
    pub created_at: String,
    /// The summary on the catalog's tile; at most 135 characters are shown.
    pub summary: String,
    /// The oldest supported Kubernetes version.
    pub min_kube_version: String,
    /// The value of the annotation `com.redhat.openshift.versions`.
    pub openshift_versions: String,
    /// The image's architectures, as Go names them.
    pub architectures: Vec<String>,
    /// The image without a tag; the tag is the version.
    pub image: String,
    /// The URL of the source repository and issue tracker.
    pub repository: String,
    /// The provider of the operator.
    pub provider: String,
    /// The contact of the maintainer.
    pub maintainer: Maintainer,
    /// Links to documentation.
    pub links: Vec<Link>,
    /// The descriptors of spec fields, for consoles.
    pub spec: Vec<DescribedField>,
    /// The descriptors of status fields, for consoles.
    pub status: Vec<DescribedField>,
    /// The kinds of resources that belong to a mesh.
    pub resources: Vec<OwnedResource>,
    /// Kinds in `config/manager` that the bundle omits, with the reason.
    pub omitted: BTreeMap<String, String>,
}

/// The contact of a maintainer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Maintainer {
    /// The maintainer's name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// A link to a web page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The title of the page.
    pub name: String,
    /// The URL of the page.
    pub url: String,
}

/// A field with a descriptor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedField {
    /// The path below `spec` or `status`, for example `gateways[0].name`.
    pub path: String,
    /// The display name.
    pub name: String,
    /// Descriptors in addition to those derived from the schema; `advanced` for rarely used fields.
    #[serde(default)]
    pub show: Vec<String>,
}

/// A kind of resource that belongs to a mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedResource {
    /// The kind of the resource.
    pub kind: String,
    /// The API version.
    pub version: String,
}

/// Values of the publisher, which override those in `base.yaml`.
#[derive(Clone, Debug, Default)]
pub struct PublicationSettings {
    /// The image, with tag or digest.
    pub image: Option<String>,
    /// The URL of the source repository.
    pub repository: Option<String>,
    /// The contact of the maintainer.
    pub maintainer: Option<Maintainer>,
}

impl Base {
    /// Applies the publisher's values.
    #[must_use]
    pub fn published(mut self, publication: PublicationSettings) -> Self {
        if let Some(repository) = publication.repository {
            for link in &mut self.links {
                if link.url == self.repository {
                    link.url.clone_from(&repository);
                }
            }
            self.repository = repository;
        }
        if let Some(maintainer) = publication.maintainer {
            self.maintainer = maintainer;
        }
        self
    }
}
