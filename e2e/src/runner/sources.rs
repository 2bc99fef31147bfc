//! Fetches the inputs of a Pod's process: `ConfigMaps` and Secrets for its env, its Secret volumes, and its
//! ServiceAccount's token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};

use super::resolve::{self, Data, Sources};
use super::{Program, RunnerSettings};
use crate::credentials;

/// Exceeds the lifetime of any lab, so tokens need no renewal.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// Fetches everything that a container's env refers to. Skips missing objects, because a reference can be optional.
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

/// Writes Secret volumes below the working directory, where istiod looks for the files of its CA. Skips missing Secrets,
/// because a volume can be optional.
pub(super) async fn write_secret_volumes(
    client: &Client,
    pod: &Pod,
    container: &Container,
    work: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for (volume, source) in volumes.filter_map(|volume| Some((volume, volume.secret.as_ref()?))) {
        let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == volume.name);
        let (Some(mount), Some(name)) = (mount, &source.secret_name) else { continue };
        let Some(secret) = api.get_opt(name).await? else { continue };
        let dir = work.join(mount.mount_path.trim_start_matches('/'));
        std::fs::create_dir_all(&dir)?;
        for (file, content) in secret.data.unwrap_or_default() {
            std::fs::write(dir.join(file), content.0)?;
        }
    }
    Ok(())
}

fn insert_secret(secrets: &mut Data, name: String, secret: Secret) {
    let text = |(key, value): (String, k8s_openapi::ByteString)| (key, String::from_utf8_lossy(&value.0).into_owned());
    secrets.insert(name, secret.data.unwrap_or_default().into_iter().map(text).collect());
}

fn machine() -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([("cpu".to_owned(), cpus.to_string()), ("memory".to_owned(), "8Gi".to_owned())])
}

/// Writes a kubeconfig with a token of the Pod's ServiceAccount that is valid as long as the Pod exists.
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
    let response = accounts.create_token_request(account, &PostParams::default(), &request).await?;
    let status = response.status.ok_or("the TokenRequest response has no token")?;
    let token = dir.join("token");
    std::fs::write(&token, status.token)?;
    let path = dir.join("kubeconfig");
    std::fs::write(&path, credentials::kubeconfig_with_token_file(account, authority, &token))?;
    Ok(path)
}

/// Environment from the image and the kubelet; the container's env overrides it.
/// `KUBERNETES_SERVICE_HOST` stays unset, because the lab doesn't serve cluster IPs.
pub(super) fn base_environment(
    program: Program,
    pod: &Pod,
    settings: &RunnerSettings,
    work: &Path,
) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let pairs = [("PATH", path), ("HOME", work.display().to_string()), ("HOSTNAME", pod.name_any())];
    let mut env: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let (Program::Meshwright, Ok(catalogs)) = (program, std::env::join_paths(&settings.catalogs)) {
        // The operator's image contains a catalog; the runner provides it instead.
        env.push(("MESHWRIGHT_CATALOG".to_owned(), catalogs.to_string_lossy().into_owned()));
    }
    env
}

/// Environment from the lab, which overrides the container's env.
pub(super) fn lab_environment(kubeconfig: &Path) -> Vec<(String, String)> {
    vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())]
}
