//! Names as Kubernetes takes them. Pure.

/// The most characters of a DNS label.
const LABEL: usize = 63;
/// The most characters of a DNS name.
const NAME: usize = 253;

/// The value of a flag that names a namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a namespace is at most {LABEL} lower-case letters, digits and '-', beginning and ending with a letter or digit"
    ))
}

/// Whether it can be the name of most objects.
pub(super) fn is_dns_name(name: &str) -> bool {
    name.len() <= NAME && name.split('.').all(is_part)
}

fn is_dns_label(name: &str) -> bool {
    name.len() <= LABEL && is_part(name)
}

fn is_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_namespace_is_refused_with_what_can() {
        let longest = "a".repeat(LABEL);
        for good in ["istio-system", "1", &longest] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "Foo_Bar", "a b", "a.b", "-a", "a-", &format!("{longest}a")] {
            assert!(namespace(bad).is_err_and(|error| error.contains("lower-case")), "{bad}");
        }
    }
}
