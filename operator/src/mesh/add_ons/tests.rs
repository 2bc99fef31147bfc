mod values;

use std::collections::BTreeSet;

use meshwright_chart::{Capabilities, Limits, Release, documents};
use proptest::prelude::*;

use super::*;
use crate::mesh::merge::{get, merge};
use crate::platform::{GENERIC, Platforms};

fn spec(rest: Value) -> MeshInstallationSpec {
    let mut spec = json!({"version": "1.31.2"});
    merge(&mut spec, rest);
    serde_json::from_value(spec).unwrap()
}

fn all() -> Value {
    json!(AddOnName::ALL.map(|name| json!({"name": name})))
}

fn on(platform: &str, rest: Value) -> (Vec<AddOnRelease>, Vec<String>) {
    let platforms = Platforms::bundled().unwrap();
    let mut problems = Vec::new();
    let releases = AddOnRelease::all(&spec(rest), platforms.get(platform).unwrap(), &mut problems);
    (releases, problems.iter().map(ToString::to_string).collect())
}

fn releases(rest: Value) -> Vec<AddOnRelease> {
    let (releases, problems) = on(GENERIC, rest);
    assert_eq!(problems, [""; 0]);
    releases
}

fn problems(rest: Value) -> Vec<String> {
    on(GENERIC, rest).1
}

fn objects(release: &AddOnRelease) -> Vec<Value> {
    let target = Release { name: release.name.as_str().into(), namespace: "istio-system".into() };
    let chart = release.chart().unwrap();
    let texts = chart.render(&target, &release.values, &Capabilities::of_version("v1.36.0"), &Limits::default());
    texts.unwrap().iter().flat_map(|text| documents(text).map(Result::unwrap).collect::<Vec<_>>()).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
}

/// The value of a key in the add-on's `ConfigMap`.
fn text(release: &AddOnRelease, key: &str) -> String {
    find(&objects(release), "ConfigMap", release.name.as_str())["data"][key].as_str().unwrap().to_owned()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn pods_meet_restricted_standard_and_set_resources() {
    for release in releases(json!({"addons": all()})) {
        let objects = objects(&release);
        let deployment = find(&objects, "Deployment", release.name.as_str());
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert!(pod["securityContext"]["runAsUser"].as_i64().unwrap() > 0);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
        let container = &pod["containers"][0];
        let security = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], security);
        for probe in ["readinessProbe", "livenessProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            assert!(container["ports"].as_array().unwrap().iter().any(|p| p["name"] == *port), "{probe} {container}");
        }
        assert!(container["resources"]["requests"]["cpu"].is_string());
        assert!(container["resources"]["limits"]["memory"].is_string());
        assert_eq!(deployment["spec"]["replicas"], 1);
        let version = release.version.trim_start_matches('v');
        assert!(container["image"].as_str().unwrap().trim_end_matches(version).ends_with([':', 'v']), "{container}");
        assert_eq!(deployment["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"], "false");
    }
}

#[test]
fn leaves_user_ids_to_openshift() {
    for release in on("openshift", json!({"addons": all()})).0 {
        let objects = objects(&release);
        let pod = &find(&objects, "Deployment", release.name.as_str())["spec"]["template"]["spec"];
        assert_eq!(
            pod["securityContext"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["runAsNonRoot", "seccompProfile"]
        );
    }
}

#[test]
fn services_and_policies_match_pods_and_ports() {
    for release in releases(json!({"addons": all()})) {
        let objects = objects(&release);
        let template = find(&objects, "Deployment", release.name.as_str())["spec"]["template"].clone();
        let labels = template["metadata"]["labels"].as_object().unwrap().clone();
        let ports: BTreeSet<&str> = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| port["name"].as_str().unwrap())
            .collect();
        let chosen = |selector: &Value| selector.as_object().unwrap().iter().all(|(k, v)| labels.get(k) == Some(v));
        for service in objects.iter().filter(|object| object["kind"] == "Service") {
            assert!(chosen(&service["spec"]["selector"]), "{service}");
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert!(ports.contains(port["targetPort"].as_str().unwrap()), "{port}");
            }
        }
        let policies: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "NetworkPolicy").collect();
        assert!(!policies.is_empty());
        assert!(policies.iter().all(|policy| chosen(&policy["spec"]["podSelector"]["matchLabels"])));
    }
}

#[test]
fn urls_default_to_listed_add_ons() {
    let together = releases(json!({"namespace": "mesh", "addons": all()}));
    let url = |releases: &[AddOnRelease], name, path: &str| {
        let release = releases.iter().find(|release| release.name == name).unwrap();
        get(&release.values, path).and_then(Value::as_str).map(str::to_owned)
    };
    for name in [AddOnName::Grafana, AddOnName::Kiali] {
        assert_eq!(url(&together, name, "prometheus.url").unwrap(), "http://prometheus.mesh:9090");
        assert_eq!(url(&together, name, "tracing.url").unwrap(), "http://jaeger-query.mesh:16686");
    }
    assert_eq!(url(&together, AddOnName::Kiali, "grafana.url").unwrap(), "http://grafana.mesh:3000");

    let user_values = json!({"prometheus": {"url": "https://metrics.example.com/prom"}});
    let mut overridden = all();
    overridden[2]["values"] = user_values.clone();
    let overridden = releases(json!({"addons": overridden}));
    assert_eq!(url(&overridden, AddOnName::Kiali, "prometheus.url").unwrap(), "https://metrics.example.com/prom");
    let alone = releases(json!({"addons": [{"name": "kiali", "values": user_values}]}));
    assert_eq!(url(&alone, AddOnName::Kiali, "prometheus.url").unwrap(), "https://metrics.example.com/prom");
    assert_eq!(
        (url(&alone, AddOnName::Kiali, "grafana.url"), url(&alone, AddOnName::Kiali, "tracing.url")),
        (None, None)
    );
    let kiali = yaml(&text(&alone[0], "config.yaml"));
    assert_eq!(kiali["external_services"]["prometheus"]["url"], "https://metrics.example.com/prom");
    assert_eq!(kiali["external_services"]["grafana"], json!({"enabled": false}));
    assert_eq!(kiali["external_services"]["tracing"]["enabled"], false);
}

#[test]
fn grafana_and_kiali_require_prometheus() {
    for name in ["grafana", "kiali"] {
        let wanted = format!("spec.addons[{name}].values.prometheus.url: {name} requires Prometheus");
        for values in [json!({}), json!({"prometheus": {"url": ""}})] {
            let messages = problems(json!({"addons": [{"name": name, "values": values}]}));
            assert!(messages.len() == 1 && messages[0].starts_with(&wanted), "{messages:?}");
        }
    }
}

#[test]
fn reports_path_of_invalid_value() {
    let messages = |name: &str, values: Value| {
        let mut wanted = all();
        let listed = wanted.as_array_mut().unwrap().iter_mut().find(|add_on| add_on["name"] == name).unwrap();
        listed["values"] = values;
        problems(json!({"addons": wanted})).join("; ")
    };
    for (name, values, start) in [
        ("prometheus", json!({"retention": "soon"}), "retention: "),
        ("prometheus", json!({"retentoin": "7d"}), "retentoin: "),
        ("prometheus", json!({"storage": {"claim": "A b"}}), "storage.claim: "),
        ("prometheus", json!({"alertmanagers": ["http://x"]}), "alertmanagers[0]: "),
        ("grafana", json!({"prometheus": {"url": "prom:9090"}}), "prometheus.url: "),
        ("grafana", json!({"prometheus": "http://x"}), "prometheus: "),
        ("kiali", json!({"tracing": {"externalUrl": "https://a b"}}), "tracing.externalUrl: "),
        ("jaeger", json!({"maxTraces": 0}), "maxTraces: "),
        ("jaeger", json!({"image": {"tag": "2 19"}}), "image.tag: "),
    ] {
        let found = messages(name, values);
        assert!(found.starts_with(&format!("spec.addons[{name}].values: {start}")), "{found}");
    }
    assert_eq!(
        messages("jaeger", json!({"mesh": {}})),
        "spec.addons[jaeger].values.mesh: is set by the operator; remove it"
    );
}

#[test]
fn applies_pull_settings_and_image_values() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = json!({"repository": "registry.example.com:5000/tools/jaeger", "digest": digest});
    let images = json!({"pullPolicy": "Always", "imagePullSecrets": [{"name": "key"}]});
    let release = releases(json!({"images": images, "addons": [{"name": "jaeger", "values": {"image": image}}]}));
    let objects = objects(&release[0]);
    let pod = &find(&objects, "Deployment", "jaeger")["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "key"}]));
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["containers"][0]["image"], format!("registry.example.com:5000/tools/jaeger@{digest}"));
}

#[test]
fn spec_registry_and_digest_apply_unless_values_override() {
    let image = |release: &AddOnRelease| {
        let deployment = find(&objects(release), "Deployment", release.name.as_str()).clone();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let digests = AddOnName::ALL.map(|name| (name.as_str().to_owned(), json!(digest)));
    let digests = Value::Object(digests.into_iter().collect());
    let registry = "mirror.example.com:5000/istio";
    for name in AddOnName::ALL {
        let image_with = |images: Value, values: &Value| {
            let needed = json!({"prometheus": {"url": "http://prometheus.example.com"}});
            let mut values = values.clone();
            if [AddOnName::Grafana, AddOnName::Kiali].contains(&name) {
                merge(&mut values, needed);
            }
            image(&releases(json!({"images": images, "addons": [{"name": name, "values": values}]}))[0])
        };
        let default_image = image_with(json!({}), &json!({}));
        // A mirrored image keeps only the last segment of its repository name.
        let (_, last) = default_image.rsplit_once('/').unwrap();
        assert_eq!(image_with(json!({"registry": registry}), &json!({})), format!("{registry}/{last}"));
        let pinned = format!("{registry}/{}@{digest}", name.as_str());
        assert_eq!(image_with(json!({"registry": registry, "digests": digests}), &json!({})), pinned);
        let user_values = json!({"image": {"repository": "tools.example.com/x", "tag": "1"}});
        assert_eq!(image_with(json!({"registry": registry}), &user_values), "tools.example.com/x:1");
        let tag = json!({"image": {"tag": "1"}});
        assert_eq!(image_with(json!({"registry": registry}), &tag), format!("{registry}/{}:1", name.as_str()));
    }
}

#[test]
fn prometheus_scrapes_istiod_proxies_and_operator() {
    let values =
        json!({"retention": "7d", "alertmanagers": ["alerts.example.com:9093"], "storage": {"claim": "metrics"}});
    let release = releases(json!({"addons": [{"name": "prometheus", "values": values}]})).remove(0);
    let config = yaml(&text(&release, "prometheus.yml"));
    let jobs: Vec<&str> =
        config["scrape_configs"].as_array().unwrap().iter().map(|job| job["job_name"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["istiod", "pods", "meshwright", "prometheus"]);
    assert_eq!(config["scrape_configs"][0]["kubernetes_sd_configs"][0]["namespaces"]["names"], json!(["istio-system"]));
    assert_eq!(
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"],
        json!(["alerts.example.com:9093"])
    );
    let objects = objects(&release);
    let pod = &find(&objects, "Deployment", "prometheus")["spec"]["template"]["spec"];
    assert!(pod["containers"][0]["args"].as_array().unwrap().contains(&json!("--storage.tsdb.retention.time=7d")));
    assert_eq!(pod["volumes"][1]["persistentVolumeClaim"]["claimName"], "metrics");

    let quiet = json!({"addons": [{"name": "prometheus", "values": {"alerts": {"enabled": false}}}]});
    let quiet = releases(quiet).remove(0);
    assert_eq!(yaml(&text(&quiet, "prometheus.yml")).get("rule_files"), None);
}

#[test]
fn adds_jaeger_provider_unless_user_sets_one() {
    let provided = |spec_rest: Value, mut values: Value| {
        provide_tracing(&spec(spec_rest), &mut values);
        values
    };
    let jaeger = json!({"namespace": "mesh", "addons": [{"name": "jaeger"}]});
    let jaeger_provider = json!({"name": "jaeger", "opentelemetry": {"service": "jaeger-collector.mesh.svc.cluster.local", "port": 4317}});
    let wanted =
        json!({"meshConfig": {"extensionProviders": [jaeger_provider], "defaultProviders": {"tracing": ["jaeger"]}}});
    assert_eq!(provided(jaeger.clone(), json!({})), wanted);
    assert_eq!(provided(json!({}), json!({})), json!({}));

    let other = json!({"name": "zipkin"});
    let user_values =
        json!({"meshConfig": {"extensionProviders": [other], "defaultProviders": {"tracing": ["zipkin"]}}});
    let both = provided(jaeger.clone(), user_values);
    assert_eq!(both["meshConfig"]["extensionProviders"], json!([other, jaeger_provider]));
    assert_eq!(both["meshConfig"]["defaultProviders"]["tracing"], json!(["zipkin"]));

    let named =
        json!({"meshConfig": {"extensionProviders": [{"name": "jaeger", "zipkin": {"service": "x", "port": 1}}]}});
    let kept = provided(jaeger.clone(), named.clone());
    assert_eq!(kept["meshConfig"]["extensionProviders"], named["meshConfig"]["extensionProviders"]);

    let domain = provided(jaeger, json!({"global": {"proxy": {"clusterDomain": "corp.local"}}}));
    let service = &domain["meshConfig"]["extensionProviders"][0]["opentelemetry"]["service"];
    assert_eq!(service, "jaeger-collector.mesh.svc.corp.local");
}

#[test]
fn checksum_changes_only_with_configuration() {
    let stamp = |rest: Value| {
        let release = releases(json!({"addons": [{"name": "prometheus", "values": rest}]})).remove(0);
        let mut objects: Vec<(&str, Value)> = objects(&release).into_iter().map(|o| ("", o)).collect();
        annotate_configuration_checksum(&mut objects);
        let deployment = objects.iter().find(|(_, o)| o["kind"] == "Deployment").unwrap().1.clone();
        deployment["spec"]["template"]["metadata"]["annotations"][CONFIGURATION_ANNOTATION].clone()
    };
    assert!(stamp(json!({})).is_string());
    assert_eq!(stamp(json!({})), stamp(json!({"retention": "7d"})));
    assert_ne!(stamp(json!({})), stamp(json!({"scrapeInterval": "30s"})));
}

/// Names of the operator's metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("meshwright_")).map(str::to_owned).collect()
}

fn condition() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
    serde_json::from_value(json!({
        "type": "Ready", "status": "True", "reason": "Healthy", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    }))
    .unwrap()
}

#[test]
fn alerts_and_dashboards_use_existing_metrics() {
    use crate::runtime::leader::LeaderState;
    use crate::runtime::metrics::{InjectionCheckResult, Metrics, ReconcileResult, WriteVerb};
    let metrics = Metrics::new();
    metrics.count_reconcile(ReconcileResult::Unchanged, std::time::Duration::from_millis(3));
    metrics.count_write(WriteVerb::Apply);
    metrics.count_drift_revert("Deployment");
    metrics.count_injection_check(InjectionCheckResult::Injected);
    metrics.set_leader(&LeaderState::Leading);
    metrics.set_watched("Pod", 1);
    metrics.set_watch_ages(&[("pods".to_owned(), std::time::Duration::ZERO)].into());
    metrics.set_proxies(&[("1.31.2".to_owned(), 1)].into());
    metrics.set_condition_source(Box::new(|| vec![("mesh".to_owned(), vec![condition()])]));
    let exposition = metrics.encode().unwrap();
    let known: BTreeSet<String> = exposition
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| metric_names(line).pop_first())
        .collect();
    let releases = releases(json!({"addons": all()}));
    for (name, key) in [(AddOnName::Prometheus, "alerts.yml"), (AddOnName::Grafana, "operator.json")] {
        let release = releases.iter().find(|release| release.name == name).unwrap();
        let named = metric_names(&text(release, key));
        assert!(named.len() > 3 && named.is_subset(&known), "{key}: {:?}", named.difference(&known));
    }
}

proptest! {
    /// User values arrive unchanged in the rendered YAML, or are rejected.
    #[test]
    fn user_values_cannot_break_yaml(url in "https?://[a-z]{1,5}[ -~]{0,12}", label in "[ -~]{1,12}") {
        let values = json!({
            "prometheus": {"url": url}, "nodeSelector": {&label: &label}, "grafana": {"externalUrl": url},
        });
        let (releases, problems) = on(GENERIC, json!({"addons": [{"name": "kiali", "values": values}]}));
        if problems.is_empty() {
            let kiali = yaml(&text(&releases[0], "config.yaml"));
            prop_assert_eq!(&kiali["external_services"]["prometheus"]["url"], &url);
            prop_assert_eq!(&kiali["external_services"]["grafana"]["external_url"], &url);
            let objects = objects(&releases[0]);
            let pod = &find(&objects, "Deployment", "kiali")["spec"]["template"]["spec"];
            prop_assert_eq!(&pod["nodeSelector"][&label], &label);
        }
    }
}

#[test]
fn documentation_lists_versions_and_images() {
    let document = include_str!("../../../../docs/addons.md");
    for release in releases(json!({"addons": all()})) {
        let pod = find(&objects(&release), "Deployment", release.name.as_str())["spec"]["template"]["spec"].clone();
        let image = pod["containers"][0]["image"].as_str().unwrap();
        let row = format!("| {} | {} | `{image}` |", release.name.as_str(), release.version);
        assert!(document.contains(&row), "{row}");
    }
}
