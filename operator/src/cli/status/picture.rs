//! The picture of one installation. Pure: what to draw, the time and the width are arguments.

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
    AddressType, CaSource, CaStatus, ComponentStatus, GatewayPortStatus, GatewayStatus, MeshInstallation,
    MeshInstallationStatus, NodePortRangeSource, NodePortRangeStatus, Phase, PlatformStatus, Protocol, ProxiesStatus,
    ServiceType, VersionStatus,
};

use super::sheet::{Cell, Row, Sheet};
use super::text::{BAD, CARE, GOOD, PLAIN, TITLE, clean, paint, span};
use super::{is_current, observed};
use crate::platform::Platforms;

/// A root certificate that ends within so many days deserves a look.
const CA_SOON: i64 = 30;

/// The state of an installation as a person would like to read it, with colours, in lines of about `width` characters.
#[must_use]
pub fn picture(mesh: &MeshInstallation, now: Timestamp, width: usize) -> String {
    let mut sheet = Sheet::new(width);
    let status = observed(mesh);
    let (style, state) = state(mesh);
    sheet.line(&format!(
        "{} {}",
        paint(TITLE, &format!("MeshInstallation {}:", mesh.name_any())),
        paint(style, &state)
    ));
    let Some(status) = status else {
        sheet.field(
            "",
            PLAIN,
            "",
            "no operator has looked at it yet; is one running, and may it read MeshInstallations?",
        );
        return sheet.finish();
    };
    if !is_current(mesh) {
        sheet.field("Spec", CARE, "changed", "; what follows speaks of the one before");
    }
    conditions(&mut sheet, status, now);
    version(&mut sheet, &mesh.spec.version, &status.version);
    let place = format!("{}, control plane in {}", mesh.spec.profile.as_str(), clean(&mesh.spec.namespace));
    sheet.field("Profile", PLAIN, "", &place);
    platform(&mut sheet, &status.platform);
    if let Some(ca) = &status.ca {
        authority(&mut sheet, ca, now);
    }
    if let Some(range) = &status.platform.node_port_range {
        node_ports(&mut sheet, range);
    }
    if let Some(seen) = &status.proxies {
        proxies(&mut sheet, seen);
    }
    components(&mut sheet, &status.components);
    for gateway in &status.gateways {
        draw_gateway(&mut sheet, gateway, service_type(mesh, gateway));
    }
    sheet.finish()
}

fn state(mesh: &MeshInstallation) -> (Style, String) {
    let phase = observed(mesh).and_then(|status| status.phase);
    let style = match phase {
        Some(Phase::Ready) if is_current(mesh) => GOOD,
        Some(Phase::Degraded | Phase::Stalled) => BAD,
        _ => CARE,
    };
    (style, phase.map_or("not seen yet", Phase::as_str).to_owned())
}

/// Ready always; of the others those that tell of trouble and don't just repeat it.
fn conditions(sheet: &mut Sheet, status: &MeshInstallationStatus, now: Timestamp) {
    let ready = get(&status.conditions, ConditionType::Ready);
    if let Some(ready) = ready {
        let style = match ready.status.as_str() {
            "True" => GOOD,
            "False" => BAD,
            _ => CARE,
        };
        condition(sheet, ready, style, now);
    }
    for other in &status.conditions {
        let repeats = |ready: &Condition| (&ready.reason, &ready.message) == (&other.reason, &other.message);
        let style = match (other.type_.as_str(), other.status.as_str()) {
            ("Ready", _) | ("Available" | "Upgradeable", "True") | ("Reconciling" | "Stalled" | "InUse", "False") => {
                continue;
            }
            ("Reconciling" | "Stalled", _) if ready.is_some_and(repeats) => continue,
            ("Available" | "Stalled", _) => BAD,
            _ => CARE,
        };
        condition(sheet, other, style, now);
    }
}

fn condition(sheet: &mut Sheet, condition: &Condition, style: Style, now: Timestamp) {
    let since = span(condition.last_transition_time.0, now);
    let rest = format!(" for {since}, {}: {}", clean(&condition.reason), clean(&condition.message));
    sheet.field(&condition.type_, style, &condition.status, &rest);
}

fn version(sheet: &mut Sheet, asked: &str, version: &VersionStatus) {
    let (style, head, rest) = match (version.running.as_deref(), version.resolved.as_deref()) {
        (Some(running), Some(resolved)) if running != resolved => {
            (PLAIN, running, format!(", moving to {}", clean(resolved)))
        }
        (Some(running), _) => (PLAIN, running, String::new()),
        (None, Some(resolved)) => (CARE, resolved, ", not running yet".to_owned()),
        (None, None) => (CARE, "none", String::new()),
    };
    let spec = if version.resolved.as_deref() == Some(asked) {
        String::new()
    } else {
        format!(" (the spec says {})", clean(asked))
    };
    sheet.field("Version", style, &clean(head), &format!("{rest}{spec}"));
}

/// The platform with the strongest evidence for it, and what is warned of.
fn platform(sheet: &mut Sheet, platform: &PlatformStatus) {
    if let Some(name) = &platform.name {
        let evidence = platform.evidence.first().map(|evidence| format!(" ({})", clean(evidence))).unwrap_or_default();
        sheet.field("Platform", PLAIN, &clean(name), &evidence);
    }
    for warning in &platform.warnings {
        sheet.field("Warning", CARE, "", &clean(warning));
    }
}

fn authority(sheet: &mut Sheet, ca: &CaStatus, now: Timestamp) {
    let source = match ca.source {
        CaSource::SelfSigned => "made by istiod",
        CaSource::External => "given from outside",
    };
    let Some(end) = &ca.not_after else {
        sheet.field("Root CA", PLAIN, "", source);
        return;
    };
    let date = end.0.to_zoned(tz::TimeZone::UTC).date();
    let days = (end.0.as_second() - now.as_second()) / 86_400;
    let (style, head, when) = match () {
        () if end.0 <= now => (BAD, "expired", format!("{} ago", span(end.0, now))),
        () if days < CA_SOON => (CARE, "expires soon:", format!("in {}", span(now, end.0))),
        () => (PLAIN, "expires", format!("in {}", span(now, end.0))),
    };
    sheet.field("Root CA", style, head, &format!(" {date} ({when}), {source}"));
}

fn node_ports(sheet: &mut Sheet, range: &NodePortRangeStatus) {
    let source = match range.source {
        NodePortRangeSource::Discovered => "the API server's",
        NodePortRangeSource::Spec => "as the spec says",
        NodePortRangeSource::Platform => "usual on this platform",
        NodePortRangeSource::Default => "Kubernetes' usual ones",
    };
    let message = range.message.as_deref().map(|message| format!("; {}", clean(message))).unwrap_or_default();
    sheet.field("Node ports", PLAIN, "", &format!("{}, {source}{message}", clean(&range.range)));
}

/// Nothing where no pod has a proxy.
fn proxies(sheet: &mut Sheet, seen: &ProxiesStatus) {
    if !seen.versions.is_empty() {
        let versions: Vec<String> = seen.versions.iter().map(|version| clean(version)).collect();
        let hint = if seen.outdated { ", some outdated (meshwright status --proxies)" } else { "" };
        let style = if seen.outdated { CARE } else { PLAIN };
        sheet.field("Proxies", style, &versions.join(", "), hint);
    }
    if let Some(message) = &seen.message {
        sheet.field("", PLAIN, "", &clean(message));
    }
}

fn components(sheet: &mut Sheet, components: &[ComponentStatus]) {
    if components.is_empty() {
        return;
    }
    let rows: Vec<Row> = components.iter().map(component).collect();
    sheet.blank();
    sheet.table(&["COMPONENT", "NAMESPACE", "READY", "VERSION"], &rows);
}

fn component(component: &ComponentStatus) -> Row {
    let style = if component.ready >= component.desired { GOOD } else { CARE };
    let or_none = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
    let cells = vec![
        Cell::new(clean(&component.name)),
        Cell::new(or_none(&component.namespace)),
        Cell::styled(style, format!("{}/{}", component.ready, component.desired)),
        Cell::new(or_none(&component.version)),
    ];
    Row { cells, note: component.message.as_deref().map(clean) }
}

fn service_type(mesh: &MeshInstallation, gateway: &GatewayStatus) -> Option<ServiceType> {
    let spec = mesh.spec.gateways.iter().find(|spec| spec.name == gateway.name)?;
    let platform = observed(mesh).and_then(|status| status.platform.name.clone());
    let platforms = Platforms::bundled().ok()?;
    let usual = platform.and_then(|name| platforms.get(&name)?.gateway_service_type());
    Some(spec.service_type_on(usual))
}

fn draw_gateway(sheet: &mut Sheet, gateway: &GatewayStatus, kind: Option<ServiceType>) {
    let (style, state) = if gateway.ready { (GOOD, "ready") } else { (CARE, "not ready") };
    let kind_text = kind.map(|kind| format!(", {}", kind.as_str())).unwrap_or_default();
    let place = clean(&format!("{}/{}", gateway.namespace, gateway.name));
    sheet.blank();
    sheet.line(&format!("  {} {}{kind_text}", paint(TITLE, &format!("Gateway {place}:")), paint(style, state)));
    let addresses: Vec<String> = gateway.addresses.iter().map(|address| clean(address)).collect();
    let addresses = addresses.join(", ");
    match (gateway.address_type, kind) {
        (None, Some(ServiceType::LoadBalancer)) => {
            sheet.field("Addresses", CARE, "none yet", ": no load balancer has given one");
        }
        (Some(AddressType::Node), Some(ServiceType::LoadBalancer)) => {
            sheet.field("Addresses", CARE, "no load balancer yet", &format!("; of nodes: {addresses}"));
        }
        (Some(AddressType::Node), _) if addresses.is_empty() => {
            sheet.field("Addresses", PLAIN, "", "those of the nodes");
        }
        (Some(AddressType::Node), _) => sheet.field("Addresses", PLAIN, "", &format!("{addresses} (of nodes)")),
        (None, _) => sheet.field("Addresses", CARE, "none yet", ""),
        (Some(_), _) => sheet.field("Addresses", PLAIN, "", &addresses),
    }
    let ports: Vec<String> = gateway.ports.iter().map(port).collect();
    sheet.field("Ports", PLAIN, "", &ports.join(", "));
    if let Some(urls) = urls(gateway) {
        let inside = gateway.address_type == Some(AddressType::Service);
        let note = if inside { " (from inside the cluster)" } else { "" };
        sheet.field("Open", PLAIN, "", &format!("{urls}{note}"));
    }
}

fn port(port: &GatewayPortStatus) -> String {
    let protocol = if port.protocol == Protocol::Udp { "/UDP" } else { "" };
    let node_port = port.node_port.map(|node_port| format!(" -> {node_port}")).unwrap_or_default();
    format!("{} {}{protocol}{node_port}", clean(&port.name), port.port)
}

/// What a person would open: the first address with each port that speaks HTTP, as its name says.
fn urls(gateway: &GatewayStatus) -> Option<String> {
    let by_node = gateway.address_type == Some(AddressType::Node);
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
