//! What a registry asks of those who come, and what they show then. Pure: the registry's challenge comes as an argument.

use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password, with each request.
    Password,
    /// A token, which somebody else gives.
    Token {
        /// Who gives it: a URL.
        realm: String,
        /// What it is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood. A registry that is asked by TLS can't send anybody elsewhere without it: the password
    /// would go over the network as it is.
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
    fn challenges_of_registries_are_understood() {
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
    fn nobody_is_sent_from_tls_to_where_there_is_none() {
        let plain = "Bearer realm=\"http://auth.example.com/token\"";
        assert_eq!(of(&[plain], "https"), None);
        assert!(of(&[plain], "http").is_some());
    }
}
