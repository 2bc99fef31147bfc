//! Validation of Kubernetes object names. Pure.

/// Maximum length of a DNS label.
const LABEL: usize = 63;
/// Maximum length of a DNS subdomain name.
const NAME: usize = 253;

/// Parses a flag that names a namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a namespace name consists of up to {LABEL} lower-case letters, digits and '-', and starts and ends with a \
         letter or digit"
    ))
}

/// Parses a flag that names a `PriorityClass`.
pub(super) fn priority_class(text: &str) -> Result<String, String> {
    if is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "the name of a PriorityClass consists of up to {NAME} lower-case letters, digits, '-' and '.', and starts and ends \
         with a letter or digit"
    ))
}

/// Whether most kinds accept this name (DNS subdomain).
pub(super) fn is_dns_name(name: &str) -> bool {
    name.len() <= NAME && name.split('.').all(is_dns_segment)
}

fn is_dns_label(name: &str) -> bool {
    name.len() <= LABEL && is_dns_segment(name)
}

fn is_dns_segment(segment: &str) -> bool {
    !segment.is_empty()
        && !segment.starts_with('-')
        && !segment.ends_with('-')
        && segment.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_namespace_names() {
        let longest = "a".repeat(LABEL);
        for good in ["istio-system", "1", &longest] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "Foo_Bar", "a b", "a.b", "-a", "a-", &format!("{longest}a")] {
            assert!(namespace(bad).is_err_and(|error| error.contains("lower-case")), "{bad}");
        }
    }

    #[test]
    fn rejects_invalid_priority_classes() {
        assert_eq!(priority_class("system-cluster-critical").as_deref(), Ok("system-cluster-critical"));
        for bad in ["", "Infra", "a\": b", "a\nb", "-a"] {
            assert!(priority_class(bad).is_err_and(|error| error.contains("lower-case")), "{bad}");
        }
    }
}
