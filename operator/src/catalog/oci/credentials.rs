//! Registry credentials. Reads Docker's configuration, which `docker login` and `helm registry login` write.

use std::{env, fmt, path::PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Anonymous access, as for public registries.
    Anonymous,
    /// A user name and a password.
    Password {
        /// The user name.
        username: String,
        /// The password; never logged.
        password: String,
    },
}

/// The credentials in Docker's configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadCredentialsError {
    /// An identity token must first be exchanged for an access token, which is not implemented.
    #[error(
        "Docker's configuration has an identity token for {registry}, which is not supported; use --username and a \
         password"
    )]
    IdentityToken { registry: String },
    /// The file can't be read, or the credential helper failed.
    #[error("can't read the credentials for {registry} from Docker's configuration")]
    Docker {
        registry: String,
        #[source]
        source: CredentialRetrievalError,
    },
}

impl Credentials {
    /// Reads the credentials for a registry from Docker's configuration (`$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`) or its credential helper; anonymous if there are none.
    pub fn from_docker(registry: &str) -> Result<Self, ReadCredentialsError> {
        // The library doesn't distinguish a missing file from an unreadable one.
        if !docker_config().is_some_and(|path| path.exists()) {
            return Ok(Self::Anonymous);
        }
        // Docker keeps the credentials of its own registry under another host.
        let server = if registry == "docker.io" { "index.docker.io" } else { registry };
        Self::of(registry, docker_credential::get_credential(server))
    }

    fn of(
        registry: &str,
        found: Result<DockerCredential, CredentialRetrievalError>,
    ) -> Result<Self, ReadCredentialsError> {
        let registry = || registry.to_owned();
        match found {
            Ok(DockerCredential::UsernamePassword(username, password)) => Ok(Self::Password { username, password }),
            Ok(DockerCredential::IdentityToken(_)) => Err(ReadCredentialsError::IdentityToken { registry: registry() }),
            Err(CredentialRetrievalError::ConfigNotFound | CredentialRetrievalError::NoCredentialConfigured) => {
                Ok(Self::Anonymous)
            }
            Err(source) => Err(ReadCredentialsError::Docker { registry: registry(), source }),
        }
    }
}

/// The path of Docker's configuration.
fn docker_config() -> Option<PathBuf> {
    let named = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let directory = named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(directory.join("config.json"))
}

/// Omits the password.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("without credentials"),
            Self::Password { username, .. } => write!(f, "as {username:?}"),
        }
    }
}

/// Omits the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_anonymous_without_entry() {
        for error in [CredentialRetrievalError::ConfigNotFound, CredentialRetrievalError::NoCredentialConfigured] {
            assert_eq!(Credentials::of("r", Err(error)).unwrap(), Credentials::Anonymous);
        }
    }

    #[test]
    fn errors_name_the_registry() {
        let token = Ok(DockerCredential::IdentityToken("t".into()));
        assert!(Credentials::of("r.example.com", token).unwrap_err().to_string().contains("r.example.com"));
        let broken = Credentials::of("r.example.com", Err(CredentialRetrievalError::ConfigReadError)).unwrap_err();
        assert!(broken.to_string().contains("r.example.com"));
    }

    #[test]
    fn never_shows_password() {
        let found = Ok(DockerCredential::UsernamePassword("me".into(), "secret".into()));
        let credentials = Credentials::of("r", found).unwrap();
        let shown = format!("{credentials} {credentials:?}");
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }
}
