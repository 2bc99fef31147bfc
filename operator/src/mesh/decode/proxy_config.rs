//! `agent.ValidateMeshConfigProxyConfig`: the defaults of all proxies.

use std::net::IpAddr;

use serde_json::Value;

use super::mesh_config::{Validator, is_fqdn};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Collects rejections. Unset fields have valid defaults.
pub(super) fn validate(proxy: &mut Validator<'_>) {
    for name in ["config_path", "binary_path", "discovery_address"] {
        if proxy.text(name) == Some("") {
            proxy.reject(name, "must not be empty");
        }
    }
    // tracingServiceName excludes serviceCluster.
    if proxy.text("service_cluster") == Some("") && proxy.field("tracing_service_name").is_none() {
        proxy.reject("service_cluster", "must not be empty");
    }
    proxy.positive_duration("drain_duration");
    if proxy.duration("drain_duration").is_some_and(|nanos| nanos % NANOS_PER_SECOND != 0) {
        proxy.reject("drain_duration", "the duration must be in whole seconds");
    }
    for name in ["discovery_address", "statsd_udp_address", "envoy_metrics_service_address"] {
        address(proxy, name);
    }
    for name in ["envoy_metrics_service", "envoy_access_log_service"] {
        if let Some(mut service) = proxy.message(name) {
            address(&mut service, "address");
        }
    }
    proxy.port("proxy_admin_port");
    proxy.port("status_port");
    let is_known = |policy: &Value| match policy.as_str() {
        Some(name) => matches!(name, "NONE" | "MUTUAL_TLS"),
        None => super::jsonpb::integer(policy).is_some_and(|number| matches!(number, 0 | 1)),
    };
    if proxy.field("control_plane_auth_policy").is_some_and(|policy| !is_known(policy)) {
        proxy.reject("control_plane_auth_policy", "must be NONE or MUTUAL_TLS");
    }
    if let Some(mut tracing) = proxy.message("tracing") {
        tracer(&mut tracing);
    }
    if let Some(mut provider) = proxy.message("private_key_provider") {
        private_key_provider(&mut provider);
    }
    if let Some(mut connections) = proxy.message("connection_settings") {
        connection_settings(&mut connections);
    }
}

/// An address that may be left empty.
fn address(message: &mut Validator<'_>, name: &str) {
    if let Some(address) = message.text(name).filter(|address| !address.is_empty() && !is_address(address)) {
        message.reject(name, format!("{address:?} is not host:port"));
    }
}

/// Istio's `ValidateProxyAddress`: host and port.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = split_host_port(address) else { return false };
    let is_port = port.parse::<i64>().is_ok_and(|port| (1..=65_535).contains(&port));
    is_port && (is_fqdn(host) || host.split('%').next().unwrap_or_default().parse::<IpAddr>().is_ok())
}

/// What Go's `net.SplitHostPort` accepts.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        let port = after.strip_prefix(':')?;
        let is_clean = |text: &str| !text.contains(['[', ']']);
        return (is_clean(host) && is_clean(port) && !port.contains(':')).then_some((host, port));
    }
    let (host, port) = address.rsplit_once(':')?;
    (!host.contains(':') && !address.contains(['[', ']'])).then_some((host, port))
}

/// Of several tracers the last one counts, in the order of the protocol buffer.
fn tracer(tracing: &mut Validator<'_>) {
    let tracers = ["open_census_agent", "stackdriver", "datadog", "lightstep", "zipkin"];
    if let Some(name) = tracers.into_iter().find(|name| tracing.field(name).is_some())
        && matches!(name, "datadog" | "lightstep" | "zipkin")
        && let Some(mut tracer) = tracing.message(name)
    {
        let address = tracer.text("address").unwrap_or_default();
        let address =
            if name == "lightstep" { address.to_owned() } else { address.replacen("$(HOST_IP)", "127.0.0.1", 1) };
        if !is_address(&address) {
            tracer.reject("address", format!("{address:?} is not host:port"));
        }
        if name == "lightstep" && tracer.text("access_token").is_none_or(str::is_empty) {
            tracer.reject("access_token", "must be set");
        }
    }
    if let Some(mut tls) = tracing.message("tls_settings") {
        client_tls(&mut tls);
    }
}

/// `ValidateTLS` of settings that belong to no namespace.
fn client_tls(tls: &mut Validator<'_>) {
    let is_mode = |tls: &Validator<'_>, name: &str, number: i128| {
        tls.field("mode")
            .is_some_and(|mode| mode == name || (mode.is_number() && super::jsonpb::integer(mode) == Some(number)))
    };
    let is_set = |tls: &Validator<'_>, name: &str| tls.text(name).is_some_and(|text| !text.is_empty());
    let (simple, mutual) = (is_mode(tls, "SIMPLE", 1), is_mode(tls, "MUTUAL", 2));
    if tls.text("credential_name").is_some_and(|name| name.starts_with("configmap://")) {
        tls.reject("credential_name", "a ConfigMap can't be named here");
    }
    let names_peer = is_set(tls, "ca_certificates") || tls.list("subject_alt_names").next().is_some();
    if tls.is_true("insecure_skip_verify")
        && ((simple && (names_peer || is_set(tls, "credential_name"))) || (mutual && names_peer))
    {
        tls.reject("insecure_skip_verify", "must not be true beside certificates of the server");
    }
    if (simple || mutual) && is_set(tls, "credential_name") {
        let files = ["client_certificate", "ca_certificates", "private_key", "ca_crl"];
        if files.iter().any(|name| is_set(tls, name)) {
            tls.reject("credential_name", "set credentialName or files, not both");
        }
        return;
    }
    if mutual {
        for name in ["client_certificate", "private_key"] {
            if !is_set(tls, name) {
                tls.reject(name, "must be set with mode MUTUAL");
            }
        }
    }
}

fn private_key_provider(provider: &mut Validator<'_>) {
    let Some(name) = ["qat", "cryptomb"].into_iter().find(|name| provider.field(name).is_some()) else {
        return provider.reject("cryptomb", "privateKeyProvider must have cryptomb or qat");
    };
    if let Some(mut settings) = provider.message(name)
        && settings.duration("poll_delay").unwrap_or_default() == 0
    {
        settings.reject("poll_delay", "must be set, and not be 0");
    }
}

fn connection_settings(settings: &mut Validator<'_>) {
    settings.not_negative(&["listener_per_connection_buffer_limit_bytes", "cluster_per_connection_buffer_limit_bytes"]);
    for name in [
        "http_idle_timeout",
        "http_max_connection_duration",
        "http_drain_timeout",
        "http_request_timeout",
        "http_request_headers_timeout",
        "http_stream_idle_timeout",
        "http_max_stream_duration",
    ] {
        if settings.duration(name).is_some_and(|nanos| nanos < 0) {
            settings.reject(name, "must not be negative");
        }
    }
    let least = [
        ("http_max_concurrent_streams", 1),
        ("http2_initial_stream_window_size", 65_535),
        ("http2_initial_connection_window_size", 65_535),
        ("listener_connection_limit", 1),
        ("global_downstream_connection_limit", 1),
    ];
    for (name, least) in least {
        if settings.int(name).is_some_and(|number| number < least) {
            settings.reject(name, format!("must be at least {least}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn addresses_have_host_and_port() {
        for (address, good) in [
            ("zipkin.istio-system:9411", true),
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("::1:80", false),
            ("zipkin", false),
            ("a:0", false),
            ("a:65536", false),
            ("a b:80", false),
            (":80", false),
        ] {
            assert_eq!(is_address(address), good, "{address:?}");
        }
    }
}
