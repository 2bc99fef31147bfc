//! Parses the authentication challenge of a registry. Pure.

use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The authentication that a registry requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Basic authentication with each request.
    Password,
    /// A bearer token from a token endpoint.
    Token {
        /// The URL of the token endpoint.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// Returns the first supported challenge. Over TLS, ignores token endpoints without TLS, to which the password
    /// would be sent in plain text.
    pub(super) fn of(headers: &HeaderMap, scheme: &str) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut all = texts.flat_map(|text| ChallengeParser::new(text).map_while(Result::ok).collect::<Vec<_>>());
        all.find_map(|challenge| {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                return Some(Self::Password);
            }
            let realm = parameter("realm").filter(|realm| realm.starts_with("https://") || scheme == "http")?;
            let is_token = challenge.scheme.eq_ignore_ascii_case("bearer");
            is_token.then(|| Self::Token { realm, service: parameter("service") })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(challenges: &[&'static str], scheme: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        Challenge::of(&headers, scheme)
    }

    #[test]
    fn parses_registry_challenges() {
        let hub = "Bearer realm=\"https://auth.example.com/token\",service=\"registry.example.com\",scope=\"x\"";
        let token = |realm: &str, service: Option<&str>| Challenge::Token {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        let wanted = token("https://auth.example.com/token", Some("registry.example.com"));
        assert_eq!(of(&[hub], "https"), Some(wanted));
        assert_eq!(of(&["Basic realm=\"lab\""], "https"), Some(Challenge::Password));
        assert_eq!(of(&["Negotiate a=b", "bearer realm=\"https://a\""], "https"), Some(token("https://a", None)));
        assert_eq!(of(&[], "https"), None);
        assert_eq!(of(&["Bearer service=\"x\""], "https"), None);
    }

    #[test]
    fn ignores_plain_http_endpoint_over_tls() {
        let plain = "Bearer realm=\"http://auth.example.com/token\"";
        assert_eq!(of(&[plain], "https"), None);
        assert!(of(&[plain], "http").is_some());
    }
}
