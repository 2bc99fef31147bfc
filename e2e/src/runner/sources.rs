//! Fetches what a Pod's process needs: the `ConfigMaps` and Secrets of its env, and its ServiceAccount's token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::resolve::{self, Data, Sources};
use super::{Program, Settings};
use crate::credentials;

/// Longer than any lab lives, so no token needs to be renewed.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// All that a container's env refers to. Objects that don't exist are left out: whether one may be missing is
/// the reference's to say.
pub(super) async fn fetch(
    client: &Client,
    pod: &Pod,
    container: &Container,
    pod_ip: &str,
    host_ip: &str,
) -> Result<Sources, kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let (config_maps, secrets) = resolve::referenced(container);
    let mut sources =
        Sources { pod_ip: pod_ip.to_owned(), host_ip: host_ip.to_owned(), machine: machine(), ..Sources::default() };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for name in config_maps {
        if let Some(found) = api.get_opt(&name).await? {
            sources.config_maps.insert(name, found.data.unwrap_or_default());
        }
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for name in secrets {
        if let Some(found) = api.get_opt(&name).await? {
            insert_secret(&mut sources.secrets, name, found);
        }
    }
    Ok(sources)
}

fn insert_secret(secrets: &mut Data, name: String, secret: Secret) {
    let text = |(key, value): (String, k8s_openapi::ByteString)| (key, String::from_utf8_lossy(&value.0).into_owned());
    secrets.insert(name, secret.data.unwrap_or_default().into_iter().map(text).collect());
}

fn machine() -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([("cpu".to_owned(), cpus.to_string()), ("memory".to_owned(), "8Gi".to_owned())])
}

/// Writes a kubeconfig with a token of the Pod's ServiceAccount, good as long as the Pod exists.
pub(super) async fn kubeconfig(
    client: &Client,
    pod: &Pod,
    dir: &Path,
    authority: &Path,
) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: Vec::new(),
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let granted = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let granted = granted.status.ok_or("the API server granted no token")?;
    let token = dir.join("token");
    std::fs::write(&token, granted.token)?;
    let path = dir.join("kubeconfig");
    std::fs::write(&path, credentials::kubeconfig_with_token_file(account, authority, &token))?;
    Ok(path)
}

/// The environment that comes with the image and the kubelet; the container's own comes after it.
/// `KUBERNETES_SERVICE_HOST` stays unset, since nothing serves cluster IPs here.
pub(super) fn base_environment(program: Program, pod: &Pod, settings: &Settings, work: &Path) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let pairs = [("PATH", path), ("HOME", work.display().to_string()), ("HOSTNAME", pod.name_any())];
    let mut env: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let (Program::Meshwright, Ok(catalogs)) = (program, std::env::join_paths(&settings.catalogs)) {
        // The operator's image carries a catalog; here the runner stands for the image.
        env.push(("MESHWRIGHT_CATALOG".to_owned(), catalogs.to_string_lossy().into_owned()));
    }
    env
}

/// What the lab has to say to a program, after all that the Pod says.
pub(super) fn lab_environment(kubeconfig: &Path) -> Vec<(String, String)> {
    vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())]
}
