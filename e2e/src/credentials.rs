//! Users of the lab's API server and their kubeconfigs.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::{Lab, LabError, TestResult, net};

/// API server port of every lab; each lab has its own network namespace.
pub(crate) const PORT: u16 = 6443;

/// Exceeds the lifetime of any lab.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// A user of the lab's API server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    group: &'static str,
}

impl User {
    /// The user or test that works with the lab.
    pub(crate) const ADMIN: Self = Self { name: "lab-admin", group: "system:masters" };
    /// The pod runner has a separate user so that its writes can be filtered in the audit log.
    pub(crate) const RUNNER: Self = Self { name: "lab-runner", group: "system:masters" };
    pub(crate) const KWOK: Self = Self { name: "lab-kwok", group: "system:masters" };
    pub(crate) const CONTROLLERS: Self = Self { name: "system:kube-controller-manager", group: "" };
    pub(crate) const SCHEDULER: Self = Self { name: "system:kube-scheduler", group: "" };
    const ALL: [Self; 5] = [Self::ADMIN, Self::RUNNER, Self::KWOK, Self::CONTROLLERS, Self::SCHEDULER];

    /// Predictable on purpose: the server is reachable only inside the lab's network namespace.
    fn token(self) -> String {
        format!("{}-token", self.name.replace(':', "-"))
    }
}

/// The API server's `--token-auth-file`.
pub(crate) fn token_file() -> String {
    let line = |user: &User| format!("{},{},{},\"{}\"", user.token(), user.name, user.name, user.group);
    User::ALL.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Kubeconfig for one of the users.
pub(crate) fn kubeconfig(user: User, authority: &Path) -> String {
    render(user.name, authority, &json!({"token": user.token()}))
}

/// A kubeconfig that reads its token from a file.
pub(crate) fn kubeconfig_with_token_file(user: &str, authority: &Path, token: &Path) -> String {
    render(user, authority, &json!({"tokenFile": token}))
}

/// Renders JSON, which is valid YAML.
fn render(user: &str, authority: &Path, credentials: &Value) -> String {
    let server = format!("https://{}:{PORT}", net::SERVER);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    });
    format!("{config:#}\n")
}

impl Lab {
    /// Kubeconfig with the permissions of a ServiceAccount.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> TestResult<String> {
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let response = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        let token = response.status.ok_or("the TokenRequest response has no token")?.token;
        let text = std::fs::read_to_string(self.kubeconfig()).map_err(LabError::file(self.kubeconfig()))?;
        let mut kubeconfig: Value = serde_saphyr::from_str(&text)?;
        let user = kubeconfig.pointer_mut("/users/0/user").ok_or("the lab's kubeconfig has no user")?;
        *user = json!({"token": token});
        Ok(kubeconfig.to_string())
    }
}

/// Creates a client without retries, so that the caller sees every response of the server.
pub(crate) async fn client(path: &Path) -> Result<Client, LabError> {
    let failed =
        |error: &dyn std::fmt::Display| LabError::Kubeconfig { path: PathBuf::from(path), detail: error.to_string() };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(&error))?;
    config.default_retry = false;
    Client::try_from(config).map_err(|error| failed(&error))
}
