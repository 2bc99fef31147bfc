//! Ranges of ports, and which one is in force.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use meshwright_api::{NodePortRangeSource, NodePortRangeStatus, NodePorts};

use super::refused::Refused;

/// A range of ports, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text is no range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of ports: a first and a last port between 1 and 65535 are wanted, for example 30400-30449")]
pub struct ParseRangeError(String);

impl PortRange {
    /// Kubernetes' own range, unless it is configured otherwise (`--service-node-port-range`).
    pub const KUBERNETES: Self = Self { first: 30000, last: 32767 };

    /// From the first to the last port; `None` when it is empty or has port 0.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// Every port.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// The range as far as it has to go to have these ports too.
    #[must_use]
    pub fn reaching(self, ports: impl IntoIterator<Item = u16>) -> Self {
        let wider = |range: Self, port: u16| Self { first: range.first.min(port), last: range.last.max(port) };
        ports.into_iter().filter(|port| *port > 0).fold(self, wider)
    }

    /// How many ports.
    #[must_use]
    pub fn size(self) -> usize {
        usize::from(self.last) - usize::from(self.first) + 1
    }

    /// Whether a port is in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether all of another range is in it.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

/// A single port, or a first and a last one.
impl FromStr for PortRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            // `parse` would take a sign as well.
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

/// What the API server answered when it was asked for its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// This is it.
    Told(PortRange),
    /// It was not to be learnt, for this reason.
    Unknown(String),
}

/// The range in force, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRange {
    /// The range.
    pub range: PortRange,
    /// How it is known.
    pub source: NodePortRangeSource,
    /// Why it is not the API server's word, where it isn't.
    pub note: Option<String>,
}

impl KnownRange {
    /// The range that a spec is held to: its own, which has to lie inside the API server's; else the API server's; else
    /// the platform's usual one; else Kubernetes'.
    pub fn of(spec: &NodePorts, server: &Discovery, platform: Option<PortRange>) -> Result<Self, Vec<Refused>> {
        let note = match server {
            Discovery::Told(_) => None,
            Discovery::Unknown(why) => Some(format!("the API server's range is not known: {why}")),
        };
        if let Some(asked) = &spec.range {
            let range = parsed("spec.nodePorts.range", asked)?;
            if let Discovery::Told(server) = server
                && !server.covers(range)
            {
                return Err(vec![Refused::RangeOutside { asked: range, server: *server }]);
            }
            return Ok(Self { range, source: NodePortRangeSource::Spec, note });
        }
        Ok(match (server, platform) {
            (Discovery::Told(range), _) => Self { range: *range, source: NodePortRangeSource::Discovered, note },
            (_, Some(range)) => Self { range, source: NodePortRangeSource::Platform, note },
            (_, None) => Self { range: PortRange::KUBERNETES, source: NodePortRangeSource::Default, note },
        })
    }

    /// As status shows it.
    #[must_use]
    pub fn status(&self) -> NodePortRangeStatus {
        NodePortRangeStatus { range: self.range.to_string(), source: self.source, message: self.note.clone() }
    }
}

/// How a person would refer to it.
impl fmt::Display for KnownRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.source {
            NodePortRangeSource::Discovered => "the API server's range",
            NodePortRangeSource::Spec => "spec.nodePorts.range",
            NodePortRangeSource::Platform => "the platform's usual range",
            NodePortRangeSource::Default => "Kubernetes' usual range",
        };
        write!(f, "{}, {whose}", self.range)
    }
}

fn parsed(field: &'static str, text: &str) -> Result<PortRange, Vec<Refused>> {
    text.parse().map_err(|source| vec![Refused::Unreadable { field, source }])
}

/// The ports that the spec reserves.
pub fn reserved(spec: &NodePorts) -> Result<Vec<PortRange>, Vec<Refused>> {
    spec.reserved.iter().map(|text| parsed("spec.nodePorts.reserved", text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        for text in ["30400-30449", "30431", "1-65535"] {
            assert_eq!(range(text).to_string(), text);
        }
        assert_eq!(range("30400-30449").size(), 50);
        assert_eq!(range("1-65535").size(), 65535);
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_text() {
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
    ) -> Result<KnownRange, Vec<Refused>> {
        let server = server
            .map_or_else(|| Discovery::Unknown("it may not be asked".into()), |text| Discovery::Told(range(text)));
        KnownRange::of(&spec(spec_range), &server, platform.map(range))
    }

    #[test]
    fn the_spec_goes_before_the_server_the_platform_and_the_default() {
        let cases = [
            (Some("30410-30420"), Some("30400-30449"), None, "30410-30420", NodePortRangeSource::Spec),
            (None, Some("30400-30449"), Some("30000-32767"), "30400-30449", NodePortRangeSource::Discovered),
            (None, None, Some("30400-30449"), "30400-30449", NodePortRangeSource::Platform),
            (None, None, None, "30000-32767", NodePortRangeSource::Default),
        ];
        for (spec, server, platform, expected, source) in cases {
            let known = known(spec, server, platform).unwrap();
            assert_eq!((known.range, known.source), (range(expected), source));
            assert_eq!(known.note.is_some(), server.is_none(), "what isn't the server's word says why");
        }
    }

    #[test]
    fn a_range_of_the_spec_that_the_server_has_not_is_refused() {
        let refused = known(Some("30400-30500"), Some("30400-30449"), None).unwrap_err();
        assert_eq!(refused, [Refused::RangeOutside { asked: range("30400-30500"), server: range("30400-30449") }]);
        assert!(known(Some("30400-30500"), None, None).is_ok(), "a server that tells nothing refuses nothing");
    }
}
