//! What the API server says when it refuses a node port: its words are the only place where its range is to be had.

use super::range::PortRange;

/// Why the API server refused a Service, as far as it is about node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRefusal {
    /// The port is outside its range.
    OutOfRange(PortRange),
    /// Another Service holds the port.
    Taken,
    /// It was to choose a port and has none left.
    Full,
}

const RANGE: &str = "The range of valid ports is ";

impl PortRefusal {
    /// Reads the API server's answer; `None` when it is about something else.
    #[must_use]
    pub fn read(message: &str) -> Option<Self> {
        if let Some((_, rest)) = message.split_once(RANGE) {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
            return rest.get(..end)?.parse().ok().map(Self::OutOfRange);
        }
        if message.contains("provided port is already allocated") {
            return Some(Self::Taken);
        }
        let full = message.contains("range is full") && message.to_ascii_lowercase().contains("nodeport");
        full.then_some(Self::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as API servers of 1.33 to 1.36 send them.
    #[test]
    fn the_servers_words_are_understood() {
        let prefix = "Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 31380:";
        let range = Some(PortRefusal::OutOfRange("30400-30449".parse().unwrap()));
        let outside = "provided port is not in the valid range. The range of valid ports is";
        assert_eq!(PortRefusal::read(&format!("{prefix} {outside} 30400-30449")), range);
        assert_eq!(PortRefusal::read(&format!("[{prefix} {outside} 30400-30449, and more]")), range);
        let taken = format!("{prefix} provided port is already allocated");
        assert_eq!(PortRefusal::read(&taken), Some(PortRefusal::Taken));
        let full = "Internal error occurred: failed to allocate a nodePort: range is full";
        assert_eq!(PortRefusal::read(full), Some(PortRefusal::Full));
    }

    #[test]
    fn what_is_about_something_else_is_not_taken_for_a_refusal() {
        let cluster_ip = "failed to allocate IP 10.96.0.5: provided IP is already allocated";
        let addresses = "failed to allocate a serviceIP: range is full";
        for text in ["", "services is forbidden", cluster_ip, addresses, "The range of valid ports is unknown"] {
            assert_eq!(PortRefusal::read(text), None, "{text}");
        }
    }
}
