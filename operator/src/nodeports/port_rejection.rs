//! Parses the API server's error messages about node ports. Only these messages contain its node port range.

use super::range::PortRange;

/// Why the API server rejected the node ports of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRejection {
    /// The port is outside the API server's range.
    OutOfRange(PortRange),
    /// Another Service uses the port.
    InUse,
    /// The API server has no free port to allocate.
    RangeFull,
}

const RANGE: &str = "The range of valid ports is ";

impl PortRejection {
    /// Parses the API server's message; `None` if it is not about node ports.
    #[must_use]
    pub fn parse(message: &str) -> Option<Self> {
        if let Some((_, rest)) = message.split_once(RANGE) {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
            let text = rest.get(..end)?;
            // The API server's flag accepts a range from 0 on, but 0 is no port.
            let range = text.strip_prefix("0-").map_or_else(|| text.to_owned(), |last| format!("1-{last}"));
            return range.parse().ok().map(Self::OutOfRange);
        }
        if message.contains("provided port is already allocated") {
            return Some(Self::InUse);
        }
        let full = message.contains("range is full") && message.to_ascii_lowercase().contains("nodeport");
        full.then_some(Self::RangeFull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of Kubernetes 1.33 to 1.36.
    #[test]
    fn parses_messages_about_node_ports() {
        let prefix = "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 31380:";
        let range = Some(PortRejection::OutOfRange("30400-30449".parse().unwrap()));
        let outside = "provided port is not in the valid range. The range of valid ports is";
        assert_eq!(PortRejection::parse(&format!("{prefix} {outside} 30400-30449")), range);
        assert_eq!(PortRejection::parse(&format!("[{prefix} {outside} 30400-30449, and more]")), range);
        let from_zero = PortRejection::parse(&format!("{prefix} {outside} 0-32767"));
        assert_eq!(from_zero, Some(PortRejection::OutOfRange("1-32767".parse().unwrap())));
        let taken = format!("{prefix} provided port is already allocated");
        assert_eq!(PortRejection::parse(&taken), Some(PortRejection::InUse));
        let full = "Internal error occurred: failed to allocate a nodePort: range is full";
        assert_eq!(PortRejection::parse(full), Some(PortRejection::RangeFull));
    }

    #[test]
    fn ignores_other_messages() {
        let cluster_ip = "failed to allocate IP 10.96.0.5: provided IP is already allocated";
        let addresses = "failed to allocate a serviceIP: range is full";
        for text in ["", "services is forbidden", cluster_ip, addresses, "The range of valid ports is unknown"] {
            assert_eq!(PortRejection::parse(text), None, "{text}");
        }
    }
}
