//! What a person writes of the bundle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `config/olm/base/base.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// The package in catalogs.
    pub package: String,
    /// The name that people see.
    pub display_name: String,
    /// The channels that the bundle is published to.
    pub channels: Vec<String>,
    /// The one that a subscription without a channel gets.
    pub default_channel: String,
    /// How far the operator has come: `alpha`, `beta`, `stable`.
    pub maturity: String,
    /// The capability level, as the Operator Framework names them.
    pub capabilities: String,
    /// Categories of the catalogs, with commas between them.
    pub categories: String,
    /// Words that it is found by.
    pub keywords: Vec<String>,
    /// When the first bundle was made (RFC 3339).
    pub created_at: String,
    /// What the tile in a catalog says; at most 135 characters are shown.
    pub summary: String,
    /// The oldest Kubernetes.
    pub min_kube_version: String,
    /// The OpenShift releases that have it, as the annotation `com.redhat.openshift.versions` says it.
    pub openshift_versions: String,
    /// The processors that the image is for, by Go's names.
    pub architectures: Vec<String>,
    /// The image without its tag, which is the version.
    pub image: String,
    /// Where the source is and flaws are reported.
    pub repository: String,
    /// Who provides it.
    pub provider: String,
    /// Whom to write to.
    pub maintainer: Maintainer,
    /// Pages about it.
    pub links: Vec<Link>,
    /// How consoles show fields of the spec.
    pub spec: Vec<Shown>,
    /// How consoles show fields of the status.
    pub status: Vec<Shown>,
    /// Kinds of objects that belong to a mesh.
    pub resources: Vec<Resource>,
    /// Kinds below `config/manager` that a bundle can't hold, and why that is no loss.
    #[serde(rename = "left-out")]
    pub left_out: BTreeMap<String, String>,
}

/// Somebody who answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Maintainer {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// A page.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its title.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// A field as consoles show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The field below `spec` or `status`. Example: `gateways[0].name`.
    pub path: String,
    /// What it is called.
    pub name: String,
    /// Descriptors beside those that the schema gives; `advanced` for what most people never set.
    #[serde(default)]
    pub show: Vec<String>,
}

/// A kind of object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The kind.
    pub kind: String,
    /// The version of its API.
    pub version: String,
}

/// What whoever publishes the bundle may put in the place of [`Base`]'s.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// The image with tag or digest.
    pub image: Option<String>,
    /// Where the source is.
    pub repository: Option<String>,
    /// Whom to write to.
    pub maintainer: Option<Maintainer>,
}

impl Base {
    /// The base as this publication has it.
    #[must_use]
    pub fn published(mut self, publication: Publication) -> Self {
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
