//! `agent.ValidateMeshConfig`: the validation of a well-typed `MeshConfig`. On any error it drops the
//! whole configuration. Warnings are not errors, and extension providers are not validated here, as in istiod.

use serde_json::Value;

use super::jsonpb::integer;
use super::schema::json_name;
use super::{Rejection, duration, proxy_config};

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_HOUR: i64 = 3_600_000_000_000;
/// Labels that locality load balancing handles by itself.
const TOPOLOGY_LABELS: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Reads a message and collects what is wrong with it.
pub(super) struct Validator<'a> {
    pub message: Option<&'a Value>,
    pub path: String,
    pub found: &'a mut Vec<Rejection>,
}

impl<'a> Validator<'a> {
    /// A field that is set. `name` is the name in the protocol buffer; the JSON name counts before it.
    pub fn field(&self, name: &str) -> Option<&'a Value> {
        let message = self.message?;
        let by = |name: &str| message.get(name).filter(|value| !value.is_null());
        by(&json_name(name)).or_else(|| if message.get(json_name(name)).is_some() { None } else { by(name) })
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name)?.as_str()
    }

    pub fn int(&self, name: &str) -> Option<i128> {
        integer(self.field(name)?)
    }

    /// A duration in nanoseconds.
    pub fn duration(&self, name: &str) -> Option<i64> {
        duration::parse(self.text(name)?)
    }

    pub fn is_true(&self, name: &str) -> bool {
        self.field(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn list(&self, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.field(name).and_then(Value::as_array).into_iter().flatten()
    }

    pub fn reject(&mut self, name: &str, reason: impl Into<String>) {
        let field = json_name(name);
        let path = if self.path.is_empty() { field } else { format!("{}.{field}", self.path) };
        self.found.push(Rejection { path, reason: reason.into() });
    }

    /// The message in a field, if it is set.
    pub fn message(&mut self, name: &str) -> Option<Validator<'_>> {
        let message = self.field(name)?;
        let field = json_name(name);
        let path = if self.path.is_empty() { field } else { format!("{}.{field}", self.path) };
        Some(Validator { message: Some(message), path, found: self.found })
    }

    pub fn port(&mut self, name: &str) {
        if let Some(port) = self.int(name)
            && !(1..=65_535).contains(&port)
        {
            self.reject(name, format!("{port} is not a port from 1 to 65535"));
        }
    }

    /// At least a millisecond, in whole milliseconds.
    pub fn positive_duration(&mut self, name: &str) {
        if let Some(nanos) = self.duration(name)
            && (nanos < NANOS_PER_MILLI || nanos % NANOS_PER_MILLI != 0)
        {
            self.reject(name, "the duration must be at least 1ms, in whole milliseconds");
        }
    }

    pub fn not_negative(&mut self, names: &[&str]) {
        for name in names {
            if self.int(name).is_some_and(|number| number < 0) {
                self.reject(name, "must not be negative");
            }
        }
    }
}

/// Collects what istiod refuses.
pub(super) fn validate(mesh: &Value, found: &mut Vec<Rejection>) {
    let mut mesh = Validator { message: Some(mesh), path: String::new(), found };
    mesh.port("proxy_listen_port");
    mesh.positive_duration("connect_timeout");
    if mesh.duration("connect_timeout").is_some_and(|nanos| nanos > NANOS_PER_HOUR) {
        mesh.reject("connect_timeout", "the duration must be at most 1h");
    }
    if mesh.duration("protocol_detection_timeout").is_some_and(|nanos| nanos % NANOS_PER_MILLI != 0) {
        mesh.reject("protocol_detection_timeout", "the duration must be in whole milliseconds");
    }
    // istiod reads the proxies' defaults under the JSON name only.
    if mesh.message.is_some_and(|message| message.get("defaultConfig").is_some())
        && let Some(mut proxy) = mesh.message("default_config")
    {
        proxy_config::validate(&mut proxy);
    }
    if let Some(mut locality) = mesh.message("locality_lb_setting") {
        locality_load_balancing(&mut locality);
    }
    if let Some(mut zones) = mesh.message("zone_aware_lb_setting") {
        if zones.list("failover_priority").any(|label| TOPOLOGY_LABELS.iter().any(|known| label == known)) {
            zones.reject("failover_priority", "must not use labels of region, zone and subzone");
        }
        failover_regions(&mut zones);
    }
    for (index, settings) in mesh.list("service_settings").enumerate() {
        let path = format!("serviceSettings[{index}]");
        let mut settings = Validator { message: Some(settings), path, found: mesh.found };
        let wrong = settings.list("hosts").filter_map(Value::as_str).find(|host| !is_wildcard_domain(host));
        if let Some(host) = wrong {
            settings.reject("hosts", format!("{host:?} is not a host name"));
        }
    }
    if let Some(domain) = mesh.text("trust_domain").filter(|domain| !is_trust_domain(domain)) {
        mesh.reject("trust_domain", format!("{domain:?} is not a domain name"));
    }
    // An entry that is null counts as the empty name.
    let wrong = mesh.list("trust_domain_aliases").map(|alias| alias.as_str().unwrap_or_default());
    if let Some(alias) = wrong.into_iter().find(|alias| !is_trust_domain(alias)) {
        mesh.reject("trust_domain_aliases", format!("{alias:?} is not a domain name"));
    }
    if let Some(mut tls) = mesh.message("mesh_mTLS")
        && tls.list("ecdh_curves").next().is_some()
    {
        tls.reject("ecdh_curves", "mesh TLS has no ECDH curves; set tlsDefaults.ecdhCurves");
    }
    if let Some(mut policy) = mesh.message("default_traffic_policy") {
        traffic_policy(&mut policy);
    }
}

fn locality_load_balancing(settings: &mut Validator<'_>) {
    let (distribute, failover): (Vec<_>, Vec<_>) =
        (settings.list("distribute").collect(), settings.list("failover").collect());
    if !distribute.is_empty() && !failover.is_empty() {
        return settings.reject("distribute", "set distribute or failover, not both");
    }
    let topology = settings.list("failover_priority").any(|label| TOPOLOGY_LABELS.iter().any(|known| label == known));
    if !failover.is_empty() && topology {
        return settings.reject("failover_priority", "must not use labels of region, zone and subzone beside failover");
    }
    for entry in &distribute {
        let entry = entry.get("to").and_then(Value::as_object);
        let weights = || entry.into_iter().flatten().map(|(_, weight)| integer(weight).unwrap_or_default());
        if weights().any(|weight| !(1..=100).contains(&weight)) || weights().sum::<i128>() != 100 {
            return settings.reject("distribute", "weights must be from 1 to 100, and 100 together");
        }
        let localities = entry.into_iter().flatten().map(|(locality, _)| locality.as_str());
        if !are_localities(localities) {
            settings
                .reject("distribute", "localities must be region, region/zone or region/zone/subzone, without overlap");
        }
    }
    let sources = distribute.iter().map(|entry| entry.get("from").and_then(Value::as_str).unwrap_or_default());
    if !are_localities(sources) {
        settings.reject("distribute", "localities must be region, region/zone or region/zone/subzone, without overlap");
    }
    failover_regions(settings);
}

fn failover_regions(settings: &mut Validator<'_>) {
    let entries: Vec<_> = settings.list("failover").collect();
    for entry in entries {
        let region = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let (from, to) = (region("from"), region("to"));
        if from == to || [from, to].iter().any(|region| region.contains(['/', '*'])) {
            settings.reject("failover", "must name two different regions, without zone or wildcard");
        }
    }
}

/// `validateLocalities`: a wildcard only at the end, no empty part, no locality inside another one that comes before it, and
/// none twice.
fn are_localities<'a>(localities: impl Iterator<Item = &'a str>) -> bool {
    let mut seen: Vec<Vec<&str>> = Vec::new();
    for locality in localities {
        let wildcards = locality.matches('*').count();
        if wildcards > 1 || (wildcards == 1 && !locality.ends_with('*')) {
            return false;
        }
        let parts: Vec<&str> = locality.splitn(3, '/').collect();
        if parts.iter().any(|part| part.is_empty()) || seen.iter().any(|known| overlaps(known, &parts)) {
            return false;
        }
        seen.push(parts);
    }
    true
}

/// Whether `parts` overlaps a locality that came before it.
fn overlaps(known: &[&str], parts: &[&str]) -> bool {
    match (known, parts) {
        // `*` overlaps every locality.
        ([region], _) if *region == "*" => true,
        // A region overlaps its zones.
        ([known, ..], [region]) | ([known], [region, ..]) => known == region,
        ([known, _, ..], [region, ..]) if known != region => false,
        ([_, known, ..], [_, zone]) | ([_, known], [_, zone, ..]) => known == zone || *known == "*",
        ([_, known, subzone], [_, zone, new]) => {
            *known == "*" || (known == zone && (subzone == new || *subzone == "*"))
        }
        _ => false,
    }
}

fn traffic_policy(policy: &mut Validator<'_>) {
    if let Some(mut pool) = policy.message("connection_pool") {
        if pool.field("http").is_none() && pool.field("tcp").is_none() {
            pool.reject("http", "connectionPool must have http or tcp");
        }
        if let Some(mut http) = pool.message("http") {
            http.not_negative(&[
                "http1_max_pending_requests",
                "http2_max_requests",
                "max_requests_per_connection",
                "max_retries",
                "max_concurrent_streams",
            ]);
            http.positive_duration("idle_timeout");
            let upgrades = http
                .field("h2_upgrade_policy")
                .is_some_and(|policy| policy == "UPGRADE" || (policy.is_number() && integer(policy) == Some(2)));
            if upgrades && http.is_true("use_client_protocol") {
                http.reject("use_client_protocol", "must not be true with h2UpgradePolicy UPGRADE");
            }
        }
        if let Some(mut tcp) = pool.message("tcp") {
            tcp.not_negative(&["max_connections"]);
            tcp.positive_duration("connect_timeout");
            tcp.positive_duration("max_connection_duration");
            if tcp.duration("idle_timeout").is_some_and(|nanos| nanos / NANOS_PER_MILLI != 0) {
                tcp.positive_duration("idle_timeout");
            }
            if let Some(mut keepalive) = tcp.message("tcp_keepalive") {
                keepalive.positive_duration("time");
                keepalive.positive_duration("interval");
            }
        }
    }
    if let Some(mut outliers) = policy.message("outlier_detection") {
        outliers.positive_duration("base_ejection_time");
        outliers.positive_duration("interval");
        if !outliers.is_true("split_external_local_origin_errors")
            && outliers.int("consecutive_local_origin_failures").is_some_and(|number| number > 0)
        {
            outliers.reject("consecutive_local_origin_failures", "needs splitExternalLocalOriginErrors: true");
        }
        for name in ["max_ejection_percent", "min_health_percent"] {
            if outliers.int(name).is_some_and(|percent| !(0..=100).contains(&percent)) {
                outliers.reject(name, "must be from 0 to 100");
            }
        }
    }
}

/// `labels.IsDNS1123Label`: here upper case is allowed, too.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() <= 63 && text.bytes().all(inner) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn is_trust_domain(domain: &str) -> bool {
    let mut labels: Vec<&str> = domain.split('.').collect();
    // The last label may be empty, for names such as `istio.io.`
    if labels.len() > 1 {
        labels.pop_if(|last| last.is_empty());
    }
    !domain.is_empty() && labels.iter().all(|label| is_label(label))
}

/// Names that Istio's `ValidateFQDN` accepts.
pub(super) fn is_fqdn(name: &str) -> bool {
    (1..=255).contains(&name.len()) && are_dns_labels(name)
}

fn are_dns_labels(domain: &str) -> bool {
    let mut labels: Vec<&str> = domain.split('.').collect();
    if labels.last().is_some_and(|last| is_go_integer(last)) {
        return false;
    }
    labels.pop_if(|last| last.is_empty());
    labels.iter().all(|label| is_label(label))
}

/// What `strconv.Atoi` reads.
pub(super) fn is_go_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

/// Names that Istio's `ValidateWildcardDomain` accepts.
fn is_wildcard_domain(domain: &str) -> bool {
    if !(1..=255).contains(&domain.len()) {
        return false;
    }
    let (first, rest) = domain.split_once('.').map_or((domain, None), |(first, rest)| (first, Some(rest)));
    let name = first.strip_prefix("*-").or_else(|| first.strip_prefix('*')).unwrap_or(first);
    first.len() <= 63 && (first == "*" || is_label(name)) && rest.is_none_or(are_dns_labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_as_istiod_does() {
        for (name, good) in [("istio.io.", true), ("a..b", false), ("10.0.0.1", false), ("-a", false), ("", false)] {
            assert_eq!(is_fqdn(name), good, "{name:?}");
        }
        for (name, good) in [("*", true), ("*.a.b", true), ("*-a.b", true), ("a*.b", false), ("*.1", false)] {
            assert_eq!(is_wildcard_domain(name), good, "{name:?}");
        }
        for (name, good) in [("cluster.local", true), ("a.1", true), ("a..b", false), ("", false), (".", false)] {
            assert_eq!(is_trust_domain(name), good, "{name:?}");
        }
    }

    #[test]
    fn localities_must_not_overlap() {
        for (localities, good) in [
            (&["a", "b"][..], true),
            (&["a/*", "b/z"], true),
            (&["a", "a/z"], false),
            (&["a/z", "a"], false),
            (&["a/*", "a/z"], false),
            (&["a/z/s", "a/z/t"], true),
            (&["a/z/*", "a/z/t"], false),
            (&["*", "a"], false),
            (&["a*b"], false),
            (&["a//b"], false),
        ] {
            assert_eq!(are_localities(localities.iter().copied()), good, "{localities:?}");
        }
    }
}
