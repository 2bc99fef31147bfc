//! Ranges of ports and the effective node port range.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use meshwright_api::{NodePortRangeSource, NodePortRangeStatus, NodePorts};

use super::allocation_error::AllocationError;

/// A non-empty range of ports, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is not a valid range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a port range; use <first>-<last> with ports between 1 and 65535, for example 30400-30449")]
pub struct ParseRangeError(String);

impl PortRange {
    /// The default of the API server's flag `--service-node-port-range`.
    pub const KUBERNETES: Self = Self { first: 30000, last: 32767 };

    /// Creates a range; `None` if it is empty or includes port 0.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// Returns all ports of the range.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Extends the range to include the ports.
    #[must_use]
    pub fn extended_to(self, ports: impl IntoIterator<Item = u16>) -> Self {
        let wider = |range: Self, port: u16| Self { first: range.first.min(port), last: range.last.max(port) };
        ports.into_iter().filter(|port| *port > 0).fold(self, wider)
    }

    /// Returns the number of ports.
    #[must_use]
    pub fn size(self) -> usize {
        usize::from(self.last) - usize::from(self.first) + 1
    }

    /// Returns whether the range includes a port.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Returns the ports that are in both ranges, if there are any.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Returns whether the range includes all ports of another range.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// Parses a single port or a range `first-last`.
impl FromStr for PortRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            // `parse` also accepts a sign.
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = number(first).zip(number(last)).and_then(|(first, last)| Self::new(first, last));
        range.ok_or_else(|| ParseRangeError(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Result of discovering the API server's node port range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeDiscovery {
    /// The discovered range.
    Known(PortRange),
    /// The range could not be discovered for this reason.
    Unknown(String),
}

/// The effective range and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRange {
    /// The effective range.
    pub range: PortRange,
    /// Source of the range.
    pub source: NodePortRangeSource,
    /// The API server's range, if it is known.
    pub server: Option<PortRange>,
    /// Why the range could not be discovered, if so.
    pub note: Option<String>,
}

impl KnownRange {
    /// Determines the effective range: the spec's, which must be inside the API server's; otherwise the API server's,
    /// the platform's default or Kubernetes' default, in this order.
    pub fn of(
        spec: &NodePorts,
        server: &RangeDiscovery,
        platform: Option<PortRange>,
    ) -> Result<Self, Vec<AllocationError>> {
        let (discovered, note) = match server {
            RangeDiscovery::Known(range) => (Some(*range), None),
            RangeDiscovery::Unknown(reason) => {
                (None, Some(format!("the API server's node port range is unknown: {reason}")))
            }
        };
        if let Some(requested) = &spec.range {
            let range = parsed("spec.nodePorts.range", requested)?;
            if let Some(server) = discovered
                && !server.covers(range)
            {
                return Err(vec![AllocationError::RangeOutside { requested: range, server }]);
            }
            return Ok(Self { range, source: NodePortRangeSource::Spec, server: discovered, note });
        }
        let (range, source) = match (discovered, platform) {
            (Some(range), _) => (range, NodePortRangeSource::Discovered),
            (None, Some(range)) => (range, NodePortRangeSource::Platform),
            (None, None) => (PortRange::KUBERNETES, NodePortRangeSource::Default),
        };
        Ok(Self { range, source, server: discovered, note })
    }

    /// Returns the range of explicit node ports: the API server's; if it is unknown, the spec's or the platform's.
    /// `None` if nothing is known, so that the API server decides.
    #[must_use]
    pub fn explicit_ports(&self) -> Option<Self> {
        match self.server {
            Some(range) => Some(Self { range, source: NodePortRangeSource::Discovered, ..self.clone() }),
            None if self.source == NodePortRangeSource::Default => None,
            None => Some(self.clone()),
        }
    }

    /// Converts the range for status.
    #[must_use]
    pub fn status(&self) -> NodePortRangeStatus {
        NodePortRangeStatus { range: self.range.to_string(), source: self.source, message: self.note.clone() }
    }
}

/// Formats the range with its source for messages.
impl fmt::Display for KnownRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            NodePortRangeSource::Discovered => "the API server's range",
            NodePortRangeSource::Spec => "spec.nodePorts.range",
            NodePortRangeSource::Platform => "the platform's default range",
            NodePortRangeSource::Default => "Kubernetes' default range",
        };
        write!(f, "{source} {}", self.range)
    }
}

fn parsed(field: &'static str, text: &str) -> Result<PortRange, Vec<AllocationError>> {
    text.parse().map_err(|source| vec![AllocationError::InvalidRange { field, source }])
}

/// Parses the reserved ports of the spec.
pub fn reserved(spec: &NodePorts) -> Result<Vec<PortRange>, Vec<AllocationError>> {
    spec.reserved.iter().map(|text| parsed("spec.nodePorts.reserved", text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn parses_and_formats_ranges() {
        for text in ["30400-30449", "30431", "1-65535"] {
            assert_eq!(range(text).to_string(), text);
        }
        assert_eq!(range("30400-30449").size(), 50);
        assert_eq!(range("1-65535").size(), 65535);
    }

    #[test]
    fn parse_errors_contain_the_text() {
        for text in ["", "-", "0-5", "5-4", "70000", "1-65536", "30400-30449-1", "+1-2", " 1-2", "http"] {
            let error = text.parse::<PortRange>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    fn spec(range: Option<&str>) -> NodePorts {
        NodePorts { range: range.map(str::to_owned), ..NodePorts::default() }
    }

    fn known(
        spec_range: Option<&str>,
        server: Option<&str>,
        platform: Option<&str>,
    ) -> Result<KnownRange, Vec<AllocationError>> {
        let server = server
            .map_or_else(|| RangeDiscovery::Unknown("forbidden".into()), |text| RangeDiscovery::Known(range(text)));
        KnownRange::of(&spec(spec_range), &server, platform.map(range))
    }

    #[test]
    fn spec_precedes_server_platform_and_default() {
        let cases = [
            (Some("30410-30420"), Some("30400-30449"), None, "30410-30420", NodePortRangeSource::Spec),
            (None, Some("30400-30449"), Some("30000-32767"), "30400-30449", NodePortRangeSource::Discovered),
            (None, None, Some("30400-30449"), "30400-30449", NodePortRangeSource::Platform),
            (None, None, None, "30000-32767", NodePortRangeSource::Default),
        ];
        for (spec, server, platform, expected, source) in cases {
            let known = known(spec, server, platform).unwrap();
            assert_eq!((known.range, known.source), (range(expected), source));
            assert_eq!(known.note.is_some(), server.is_none(), "the note explains why it was not discovered");
        }
    }

    #[test]
    fn explicit_ports_are_limited_by_known_ranges() {
        let cases = [
            (Some("30410-30420"), Some("1-65535"), None, Some("the API server's range 1-65535")),
            (Some("30410-30420"), None, None, Some("spec.nodePorts.range 30410-30420")),
            (None, None, Some("30400-30449"), Some("the platform's default range 30400-30449")),
            (None, None, None, None),
        ];
        for (spec, server, platform, expected) in cases {
            let explicit = known(spec, server, platform).unwrap().explicit_ports();
            assert_eq!(explicit.map(|range| range.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn rejects_range_outside_the_servers() {
        let errors = known(Some("30400-30500"), Some("30400-30449"), None).unwrap_err();
        assert_eq!(
            errors,
            [AllocationError::RangeOutside { requested: range("30400-30500"), server: range("30400-30449") }]
        );
        assert!(known(Some("30400-30500"), None, None).is_ok(), "the server's range is unknown");
    }
}
