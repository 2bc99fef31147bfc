//! Who asks a registry. Reads what `docker login` and `helm registry login` leave behind, in Docker's format.

use std::{env, fmt, path::PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// Somebody with a password.
    Password {
        /// The user's name.
        username: String,
        /// The password; never shown.
        password: String,
    },
}

/// What is kept of a registry's credentials can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadCredentialsError {
    /// Only the login program could make a password of it.
    #[error(
        "Docker's configuration has an identity token for {registry}, which isn't supported: give --username and a \
         password"
    )]
    IdentityToken {
        /// The registry.
        registry: String,
    },
    /// It can't be read, or the helper that it names failed.
    #[error("the credentials for {registry} in Docker's configuration can't be used")]
    Docker {
        /// The registry.
        registry: String,
        /// Cause.
        #[source]
        source: CredentialRetrievalError,
    },
}

impl Credentials {
    /// What Docker's configuration (`$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`) has for a registry, by
    /// itself or by the helper that it names; nobody in particular if there is none.
    pub fn from_docker(registry: &str) -> Result<Self, ReadCredentialsError> {
        // The library takes a file that isn't there for one that can't be read.
        if !docker_config().is_some_and(|path| path.exists()) {
            return Ok(Self::Anonymous);
        }
        // Where Docker's own registry answers, and where its credentials are kept.
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

/// Where Docker keeps its configuration.
fn docker_config() -> Option<PathBuf> {
    let named = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// Without the password.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("without credentials"),
            Self::Password { username, .. } => write!(f, "as {username:?}"),
        }
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_entry_nobody_in_particular_asks() {
        for error in [CredentialRetrievalError::ConfigNotFound, CredentialRetrievalError::NoCredentialConfigured] {
            assert_eq!(Credentials::of("r", Err(error)).unwrap(), Credentials::Anonymous);
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_registry() {
        let token = Ok(DockerCredential::IdentityToken("t".into()));
        assert!(Credentials::of("r.example.com", token).unwrap_err().to_string().contains("r.example.com"));
        let broken = Credentials::of("r.example.com", Err(CredentialRetrievalError::ConfigReadError)).unwrap_err();
        assert!(broken.to_string().contains("r.example.com"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let found = Ok(DockerCredential::UsernamePassword("me".into(), "secret".into()));
        let credentials = Credentials::of("r", found).unwrap();
        let shown = format!("{credentials} {credentials:?}");
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }
}
