//! `meshwright render`: the objects that the operator would apply for a MeshInstallation, without a cluster.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kube::ResourceExt as _;
use meshwright_api::version::VersionRequest;
use meshwright_api::{Adoption, MeshInstallation};
use meshwright_chart::{Capabilities, yaml_text};
use semver::Version;
use serde_json::{Value, json};

use super::directories::{self, Directories};
use super::manifest::{self, ReadManifestError};
use super::output::print;
use crate::catalog::facts::{Minor, ParseFactsError, Refusal};
use crate::catalog::store::OpenError;
use crate::catalog::{Catalog, Facts};
use crate::controller::{Accepted, Surroundings, resolve_for};
use crate::mesh::health::Blocker;
use crate::mesh::kind::Kind;
use crate::mesh::live::LiveObjects;
use crate::mesh::object::{AdmitObjectError, Desired, HASH_ANNOTATION, UID_ANNOTATION};
use crate::mesh::plan::plan;
use crate::mesh::upgrade::with_rules_of;
use crate::nodeports::Discovery;
use crate::platform::{Detected, LoadPlatformError, Platforms};

/// Flags of `meshwright render`.
#[derive(Args, Debug)]
#[command(after_help = "\
The objects are printed in the order in which the operator applies them on a cluster that has no mesh. No cluster is \
asked. The file is held against the schema and the rules of the MeshInstallation definition, unknown fields are refused; \
rules about changes (a field that can't be changed later) are not checked, since there is nothing to compare with.

A platform can't be found out without a cluster: where spec.platform doesn't name one, the objects are those for generic. Nor \
can node ports: those that the spec leaves to the operator are chosen as on a cluster whose Services hold none, from \
spec.nodePorts.range, or else the platform's usual range.

Of the operator's marks the output lacks two annotations, meshwright.dev/installation-uid and meshwright.dev/desired-hash, \
since a UID is given by the cluster alone. Where the file has metadata.uid they are there, and the output is what is \
applied to the letter:
  kubectl get meshinstallation mesh -o yaml | meshwright render -f -")]
pub struct RenderArgs {
    /// File with one MeshInstallation; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Directories of Istio releases, as `meshwright catalog` makes them
    #[arg(long = "catalog", env = "MESHWRIGHT_CATALOG", required = true, value_name = "DIR")]
    catalogs: Vec<Directories>,
    /// Version of the cluster's API server, such as v1.36.3; the newest that the release supports if absent
    #[arg(long, value_name = "VERSION", value_parser = kubernetes_version)]
    kubernetes: Option<String>,
    /// Which of them: all, or a part of those in no namespace, which others apply for an operator with --cluster-objects
    /// preinstalled. Of a part it is not asked whether the release is still supported: it may run already
    #[arg(long, value_enum, default_value_t = Scope::All, value_name = "WHICH")]
    scope: Scope,
    /// A release that runs and shall go on running: cluster roles also allow what they do in that one
    #[arg(long, value_name = "VERSION")]
    with_roles_of: Option<Version>,
    /// How to print them; json is one List
    #[arg(long, short, value_enum, default_value_t = Output::Yaml, value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// All objects
    All,
    /// Those in no namespace, without definitions
    Cluster,
    /// Definitions, which all meshes of a cluster share: those of the newest one are right for all
    Definitions,
}

impl Scope {
    fn has(self, kind: Kind) -> bool {
        let definition = kind == Kind::CustomResourceDefinition;
        match self {
            Self::All => true,
            Self::Cluster => !kind.namespaced() && !definition,
            Self::Definitions => definition,
        }
    }
}

/// Nothing could be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The file is no good.
    #[error(transparent)]
    Manifest(ReadManifestError),
    /// The catalog can't be read.
    #[error("can't open the catalog")]
    Catalog(#[source] OpenError),
    /// The program's own data are faulty.
    #[error("can't read the bundled facts")]
    Facts(#[source] ParseFactsError),
    /// The program's own data are faulty.
    #[error("can't read the platforms")]
    Platforms(#[source] LoadPlatformError),
    /// Nothing is known of the release, so that nobody knows for which Kubernetes to render.
    #[error("name the API server's version with --kubernetes")]
    UnknownRelease(#[source] Refusal),
    /// An object could not be written.
    #[error("can't join the roles of two releases")]
    Join(#[source] AdmitObjectError),
    /// The operator would refuse it too.
    #[error("{}: {}", .0.reason.as_str(), .0.message)]
    Refused(Blocker),
    /// The output can't be written.
    #[error("can't write the output")]
    Print(#[source] io::Error),
}

/// Prints the objects.
pub fn run(args: &RenderArgs) -> Result<ExitCode, RenderError> {
    let installation = manifest::read(&args.file).map_err(RenderError::Manifest)?;
    let text = rendered(args, &installation)?;
    print(io::stdout().lock(), &text).map_err(RenderError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn rendered(args: &RenderArgs, installation: &MeshInstallation) -> Result<String, RenderError> {
    let catalog = directories::open(&args.catalogs).map_err(RenderError::Catalog)?;
    let kube_version = match &args.kubernetes {
        Some(version) => version.clone(),
        None => newest_kubernetes(&installation.spec.version)?,
    };
    let capabilities = Capabilities::of_version(kube_version);
    let platforms = Platforms::bundled().map_err(RenderError::Platforms)?;
    let resolve = |installation: &MeshInstallation, running: Option<Version>| {
        let surroundings = Surroundings {
            catalog: &catalog,
            platforms: &platforms,
            capabilities: capabilities.clone(),
            platform: Detected::default(),
            node_ports: Discovery::Unknown("no cluster was asked".to_owned()),
            held: Vec::new(),
            records: &[],
            running,
            proxies: Vec::new(),
        };
        resolve_for(&surroundings, installation).map_err(RenderError::Refused)
    };
    // What others apply may be put right under a release that runs, and has come to its end.
    let may_run = if args.scope == Scope::All { None } else { release_meant(&catalog, &installation.spec.version) };
    let with_version = |version: &Version| {
        let mut running = installation.clone();
        running.spec.version = version.to_string();
        resolve(&running, Some(version.clone()))
    };
    let running = args.with_roles_of.as_ref().map(with_version).transpose()?;
    let mut accepted = resolve(installation, may_run)?;
    if let Some(running) = running {
        join_roles(&mut accepted.desired, &running.desired).map_err(RenderError::Join)?;
    }
    accepted.desired.retain(|desired| args.scope.has(desired.key.kind));
    let objects = objects(&accepted);
    let head = format!(
        "MeshInstallation {}, Istio {}, Kubernetes {}; made by: meshwright render",
        installation.name_any(),
        accepted.inputs.version,
        accepted.inputs.kubernetes
    );
    Ok(match args.output {
        Output::Yaml => yaml(&head, &objects),
        Output::Json => format!("{:#}\n", json!({"apiVersion": "v1", "kind": "List", "items": objects})),
    })
}

/// The release that a version stands for, if the catalog has one.
fn release_meant(catalog: &Catalog, version: &str) -> Option<Version> {
    let request: VersionRequest = version.parse().ok()?;
    Some(catalog.resolve(&request).ok()?.version().clone())
}

/// Has cluster roles allow what they do in another release too.
fn join_roles(desired: &mut [Arc<Desired>], other: &[Arc<Desired>]) -> Result<(), AdmitObjectError> {
    for role in desired.iter_mut().filter(|desired| desired.key.kind == Kind::ClusterRole) {
        let same = other.iter().map(Arc::as_ref).filter(|other| other.key == role.key);
        if let Some(joined) = with_rules_of(role, same)? {
            *role = Arc::new(joined);
        }
    }
    Ok(())
}

fn yaml(head: &str, objects: &[Value]) -> String {
    let mut text = format!("# {head}\n");
    for object in objects {
        text.push_str("---\n");
        text.push_str(&yaml_text(object));
    }
    text
}

/// The objects in the order of an installation from scratch, which is what a plan without live objects is.
fn objects(accepted: &Accepted) -> Vec<Value> {
    let owner = &accepted.validated.owner;
    let plan = plan(&accepted.desired, &LiveObjects::default(), owner, &BTreeSet::new(), true, Adoption::Refuse);
    let mut objects: Vec<Value> = plan.steps.iter().map(|step| step.desired.value()).collect();
    if owner.uid.is_empty() {
        objects.iter_mut().for_each(take_off_marks);
    }
    objects
}

/// Takes off the UID, which nobody knows yet, and the hash, which covers it.
fn take_off_marks(object: &mut Value) {
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.remove(UID_ANNOTATION);
        annotations.remove(HASH_ANNOTATION);
    }
}

/// What is rendered for when nobody says for what.
fn newest_kubernetes(version: &str) -> Result<String, RenderError> {
    // A version that is none is refused when it is resolved, with its field.
    let Ok(request) = version.parse::<VersionRequest>() else { return Ok("v1.0.0".into()) };
    let facts = Facts::bundled().map_err(RenderError::Facts)?;
    let (major, minor) = request.minor();
    let facts = facts.minor(Minor { major, minor }).map_err(RenderError::UnknownRelease)?;
    Ok(format!("v{}.0", facts.kubernetes.supported.1))
}

/// A version as an API server states it: `v1.36.3`. The `v` and the patch may be left out.
fn kubernetes_version(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let full = if plain.split('.').count() == 2 { format!("{plain}.0") } else { plain.to_owned() };
    match Version::parse(&full) {
        Ok(version) => Ok(format!("v{version}")),
        Err(_) => Err("a Kubernetes version is needed, such as v1.36.3 or 1.36".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};
    use meshwright_api::conditions::Reason;

    use super::*;
    use crate::cli::catalog::tests::with_release;

    /// Why nothing is rendered of a mesh of this version.
    fn refused(version: &str, catalog: &str, more: &[&str]) -> Option<Blocker> {
        let words = [&["render", "--file=-", "--catalog", catalog], more].concat();
        let matches = RenderArgs::augment_args(Command::new("render")).try_get_matches_from(words).unwrap();
        let installation = MeshInstallation::new("mesh", serde_json::from_value(json!({"version": version})).unwrap());
        match rendered(&RenderArgs::from_arg_matches(&matches).unwrap(), &installation) {
            Ok(_) => None,
            Err(RenderError::Refused(blocker)) => Some(blocker),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_end_of_a_releases_life_stands_in_the_way_of_nothing_that_runs() {
        let unsupported = |refused: Option<Blocker>| refused.is_some_and(|b| b.reason == Reason::VersionNotSupported);
        let (_catalog, old) = with_release("1.28.3");
        assert!(unsupported(refused("1.28", &old, &[])));
        for version in ["1.28", "1.28.3"] {
            assert!(!unsupported(refused(version, &old, &["--scope=cluster"])), "{version}");
            assert!(!unsupported(refused(version, &old, &["--scope=definitions", "--kubernetes=v1.36.0"])));
        }
        let (_other, new) = with_release("1.31.2");
        let both = format!("{old}:{new}");
        // The made-up charts come to no objects that are whole: what is refused for another reason was not refused for this.
        assert!(!unsupported(refused("1.31.2", &both, &["--scope=cluster", "--with-roles-of=1.28.3"])));
        assert!(!unsupported(refused("1.31.2", &both, &["--with-roles-of=1.28.3"])));
    }

    #[test]
    fn a_scope_has_definitions_or_what_else_is_in_no_namespace() {
        let kinds = [Kind::CustomResourceDefinition, Kind::ClusterRole, Kind::Deployment];
        assert_eq!(kinds.map(|kind| Scope::All.has(kind)), [true, true, true]);
        assert_eq!(kinds.map(|kind| Scope::Cluster.has(kind)), [false, true, false]);
        assert_eq!(kinds.map(|kind| Scope::Definitions.has(kind)), [true, false, false]);
    }

    #[test]
    fn a_kubernetes_version_may_be_short_and_keeps_what_a_provider_adds() {
        assert_eq!(kubernetes_version("1.36"), Ok("v1.36.0".into()));
        assert_eq!(kubernetes_version("v1.33.4-gke.1245000"), Ok("v1.33.4-gke.1245000".into()));
        assert!(kubernetes_version("latest").is_err());
        assert!(kubernetes_version("1").is_err());
    }

    #[test]
    fn without_a_kubernetes_version_the_newest_that_the_release_supports_is_taken() {
        let facts = Facts::bundled().unwrap();
        let newest = facts.minor(Minor { major: 1, minor: 31 }).unwrap().kubernetes.supported.1;
        assert_eq!(newest_kubernetes("1.31.2").unwrap(), format!("v{newest}.0"));
        assert!(newest_kubernetes("7.1").is_err());
    }

    #[test]
    fn only_the_marks_that_depend_on_the_uid_are_taken_off() {
        let marks = json!({UID_ANNOTATION: "", HASH_ANNOTATION: "x", "meshwright.dev/release": "1.31.2"});
        let mut object = json!({"metadata": {"name": "istio", "annotations": marks}});
        take_off_marks(&mut object);
        assert_eq!(object["metadata"]["annotations"], json!({"meshwright.dev/release": "1.31.2"}));
    }
}
