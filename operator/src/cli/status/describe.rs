//! Formats the status of one MeshInstallation. Pure: time and width are arguments.

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use anstyle::Style;
use jiff::{Timestamp, tz};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use meshwright_api::conditions::{ConditionType, get};
use meshwright_api::{
    CaSource, CaStatus, ComponentStatus, GatewayAddressType, GatewayPortStatus, GatewayStatus, MeshInstallation,
    MeshInstallationStatus, NodePortRangeSource, NodePortRangeStatus, Phase, PlatformStatus, Protocol, ProxiesStatus,
    ServiceType, VersionStatus,
};

use super::table::{TableCell, TableRow, TableWriter};
use super::text::{BAD, GOOD, PLAIN, TITLE, WARNING, clean, format_duration, paint};
use super::{is_current, observed};
use crate::platform::Platforms;

/// Days before its expiry from which a CA certificate is shown as a warning.
const CA_WARNING_DAYS: i64 = 30;

/// The status with colors, in lines of about `width` characters.
#[must_use]
pub fn describe(mesh: &MeshInstallation, now: Timestamp, width: usize) -> String {
    let mut out = TableWriter::new(width);
    let status = observed(mesh);
    let (style, state) = state(mesh);
    out.line(&format!("{} {}", paint(TITLE, &format!("MeshInstallation {}:", mesh.name_any())), paint(style, &state)));
    let Some(status) = status else {
        out.field("", PLAIN, "", "not reconciled yet; is the operator running, and can it read MeshInstallations?");
        return out.finish();
    };
    if !is_current(mesh) {
        out.field("Spec", WARNING, "changed", "; the following status is for the previous generation");
    }
    conditions(&mut out, status, now);
    version(&mut out, &mesh.spec.version, &status.version);
    let location = format!("{}, control plane in {}", mesh.spec.profile.as_str(), clean(&mesh.spec.namespace));
    out.field("Profile", PLAIN, "", &location);
    platform(&mut out, &status.platform);
    if let Some(ca) = &status.ca {
        authority(&mut out, ca, now);
    }
    if let Some(range) = &status.platform.node_port_range {
        node_ports(&mut out, range);
    }
    if let Some(status) = &status.proxies {
        proxies(&mut out, status);
    }
    components(&mut out, &status.components);
    for gateway in &status.gateways {
        write_gateway(&mut out, gateway, service_type(mesh, gateway));
    }
    out.finish()
}

fn state(mesh: &MeshInstallation) -> (Style, String) {
    let phase = observed(mesh).and_then(|status| status.phase);
    let style = match phase {
        Some(Phase::Ready) if is_current(mesh) => GOOD,
        Some(Phase::Degraded | Phase::Stalled) => BAD,
        _ => WARNING,
    };
    (style, phase.map_or("not reconciled", Phase::as_str).to_owned())
}

/// Always shows Ready; of the other conditions, only those with problems that Ready doesn't already report.
fn conditions(out: &mut TableWriter, status: &MeshInstallationStatus, now: Timestamp) {
    let ready = get(&status.conditions, ConditionType::Ready);
    if let Some(ready) = ready {
        let style = match ready.status.as_str() {
            "True" => GOOD,
            "False" => BAD,
            _ => WARNING,
        };
        condition(out, ready, style, now);
    }
    for other in &status.conditions {
        let repeats = |ready: &Condition| (&ready.reason, &ready.message) == (&other.reason, &other.message);
        let style = match (other.type_.as_str(), other.status.as_str()) {
            ("Ready", _) | ("Available" | "Upgradeable", "True") | ("Reconciling" | "Stalled" | "InUse", "False") => {
                continue;
            }
            ("Reconciling" | "Stalled", _) if ready.is_some_and(repeats) => continue,
            ("Available" | "Stalled", _) => BAD,
            _ => WARNING,
        };
        condition(out, other, style, now);
    }
}

fn condition(out: &mut TableWriter, condition: &Condition, style: Style, now: Timestamp) {
    let since = format_duration(condition.last_transition_time.0, now);
    let rest = format!(" for {since}, {}: {}", clean(&condition.reason), clean(&condition.message));
    out.field(&condition.type_, style, &condition.status, &rest);
}

fn version(out: &mut TableWriter, requested: &str, version: &VersionStatus) {
    let (style, head, rest) = match (version.running.as_deref(), version.resolved.as_deref()) {
        (Some(running), Some(resolved)) if running != resolved => {
            (PLAIN, running, format!(", upgrading to {}", clean(resolved)))
        }
        (Some(running), _) => (PLAIN, running, String::new()),
        (None, Some(resolved)) => (WARNING, resolved, ", not installed yet".to_owned()),
        (None, None) => (WARNING, "none", String::new()),
    };
    let spec = if version.resolved.as_deref() == Some(requested) {
        String::new()
    } else {
        format!(" (spec.version: {})", clean(requested))
    };
    out.field("Version", style, &clean(head), &format!("{rest}{spec}"));
}

/// The platform with its strongest evidence, and warnings.
fn platform(out: &mut TableWriter, platform: &PlatformStatus) {
    if let Some(name) = &platform.name {
        let evidence = platform.evidence.first().map(|evidence| format!(" ({})", clean(evidence))).unwrap_or_default();
        out.field("Platform", PLAIN, &clean(name), &evidence);
    }
    for warning in &platform.warnings {
        out.field("Warning", WARNING, "", &clean(warning));
    }
}

fn authority(out: &mut TableWriter, ca: &CaStatus, now: Timestamp) {
    let source = match ca.source {
        CaSource::SelfSigned => "self-signed by istiod",
        CaSource::External => "provided by the user",
    };
    let Some(not_after) = &ca.not_after else {
        out.field("Root CA", PLAIN, "", source);
        return;
    };
    let (label, subject) = match &ca.intermediate {
        Some(subject) => ("Issuing CA", format!(": {}", clean(subject))),
        None => ("Root CA", String::new()),
    };
    let date = not_after.0.to_zoned(tz::TimeZone::UTC).date();
    let days = (not_after.0.as_second() - now.as_second()) / 86_400;
    let (style, head, when) = match () {
        () if not_after.0 <= now => (BAD, "expired", format!("{} ago", format_duration(not_after.0, now))),
        () if days < CA_WARNING_DAYS => (WARNING, "expires soon:", format!("in {}", format_duration(now, not_after.0))),
        () => (PLAIN, "expires", format!("in {}", format_duration(now, not_after.0))),
    };
    out.field(label, style, head, &format!(" {date} ({when}), {source}{subject}"));
}

fn node_ports(out: &mut TableWriter, range: &NodePortRangeStatus) {
    let source = match range.source {
        NodePortRangeSource::Discovered => "detected",
        NodePortRangeSource::Spec => "from the spec",
        NodePortRangeSource::Platform => "platform default",
        NodePortRangeSource::Default => "Kubernetes default",
    };
    let message = range.message.as_deref().map(|message| format!("; {}", clean(message))).unwrap_or_default();
    out.field("Node ports", PLAIN, "", &format!("{}, {source}{message}", clean(&range.range)));
}

/// Omitted if no pod has a proxy.
fn proxies(out: &mut TableWriter, status: &ProxiesStatus) {
    if !status.versions.is_empty() {
        let versions: Vec<String> = status.versions.iter().map(|version| clean(version)).collect();
        let (style, hint) = match (status.outdated, status.stale_configuration) {
            (true, _) => (WARNING, ", some outdated (see meshwright status --proxies)"),
            (false, true) => (WARNING, ", some with a stale configuration (see meshwright status --proxies)"),
            (false, false) => (PLAIN, ""),
        };
        out.field("Proxies", style, &versions.join(", "), hint);
    }
    if let Some(message) = &status.message {
        out.field("", PLAIN, "", &clean(message));
    }
}

fn components(out: &mut TableWriter, components: &[ComponentStatus]) {
    if components.is_empty() {
        return;
    }
    let rows: Vec<TableRow> = components.iter().map(component).collect();
    out.blank();
    out.table(&["COMPONENT", "NAMESPACE", "READY", "VERSION"], &rows);
}

fn component(component: &ComponentStatus) -> TableRow {
    let style = if component.ready >= component.desired { GOOD } else { WARNING };
    let or_none = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
    let cells = vec![
        TableCell::new(clean(&component.name)),
        TableCell::new(or_none(&component.namespace)),
        TableCell::styled(style, format!("{}/{}", component.ready, component.desired)),
        TableCell::new(or_none(&component.version)),
    ];
    TableRow { cells, note: component.message.as_deref().map(clean) }
}

fn service_type(mesh: &MeshInstallation, gateway: &GatewayStatus) -> Option<ServiceType> {
    let spec = mesh.spec.gateways.iter().find(|spec| spec.name == gateway.name)?;
    let platform = observed(mesh).and_then(|status| status.platform.name.clone());
    let platforms = Platforms::bundled().ok()?;
    let usual = platform.and_then(|name| platforms.get(&name)?.gateway_service_type());
    Some(spec.with_service_of_values().service_type_on(usual))
}

fn write_gateway(out: &mut TableWriter, gateway: &GatewayStatus, kind: Option<ServiceType>) {
    let (style, state) = if gateway.ready { (GOOD, "ready") } else { (WARNING, "not ready") };
    let type_text = match kind {
        Some(ServiceType::None) => ", no Service".to_owned(),
        Some(kind) => format!(", {}", kind.as_str()),
        None => String::new(),
    };
    let location = clean(&format!("{}/{}", gateway.namespace, gateway.name));
    out.blank();
    out.line(&format!("  {} {}{type_text}", paint(TITLE, &format!("Gateway {location}:")), paint(style, state)));
    let addresses: Vec<String> = gateway.addresses.iter().map(|address| clean(address)).collect();
    let addresses = addresses.join(", ");
    match (gateway.address_type, kind) {
        (None, Some(ServiceType::None)) => return,
        (None, Some(ServiceType::LoadBalancer)) => {
            out.field("Addresses", WARNING, "pending", ": the load balancer has no address yet");
        }
        (Some(GatewayAddressType::Node), Some(ServiceType::LoadBalancer)) => {
            out.field("Addresses", WARNING, "load balancer pending", &format!("; node addresses: {addresses}"));
        }
        (Some(GatewayAddressType::Node), _) if addresses.is_empty() => {
            out.field("Addresses", PLAIN, "", "node addresses");
        }
        (Some(GatewayAddressType::Node), _) => out.field("Addresses", PLAIN, "", &format!("{addresses} (nodes)")),
        (None, _) => out.field("Addresses", WARNING, "pending", ""),
        (Some(_), _) => out.field("Addresses", PLAIN, "", &addresses),
    }
    let ports: Vec<String> = gateway.ports.iter().map(port).collect();
    out.field("Ports", PLAIN, "", &ports.join(", "));
    if let Some(urls) = urls(gateway) {
        let inside = gateway.address_type == Some(GatewayAddressType::Service);
        let note = if inside { " (from inside the cluster)" } else { "" };
        out.field("URLs", PLAIN, "", &format!("{urls}{note}"));
    }
}

fn port(port: &GatewayPortStatus) -> String {
    let protocol = if port.protocol == Protocol::Udp { "/UDP" } else { "" };
    let node_port = port.node_port.map(|node_port| format!(" -> {node_port}")).unwrap_or_default();
    format!("{} {}{protocol}{node_port}", clean(&port.name), port.port)
}

/// URLs for a browser: the first address with each HTTP port, by port name.
fn urls(gateway: &GatewayStatus) -> Option<String> {
    let by_node = gateway.address_type == Some(GatewayAddressType::Node);
    let address = clean(gateway.addresses.first()?);
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    let urls: Vec<String> = gateway.ports.iter().filter_map(|port| url(&host, port, by_node)).collect();
    (!urls.is_empty()).then(|| urls.join("  "))
}

fn url(host: &str, port: &GatewayPortStatus, by_node: bool) -> Option<String> {
    let (scheme, usual) = match port.name.split('-').next()? {
        _ if port.protocol == Protocol::Udp => return None,
        "http" | "http2" => ("http", 80),
        "https" => ("https", 443),
        _ => return None,
    };
    let number = if by_node { port.node_port? } else { port.port };
    let number = if number == usual { String::new() } else { format!(":{number}") };
    Some(format!("{scheme}://{host}{number}/"))
}
