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

/// A text of an add-on's `ConfigMap`.
fn text(release: &AddOnRelease, key: &str) -> String {
    find(&objects(release), "ConfigMap", release.name.as_str())["data"][key].as_str().unwrap().to_owned()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn every_pod_passes_pod_security_restricted_and_says_what_it_takes() {
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
fn openshift_chooses_the_users_itself() {
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
fn services_and_policies_select_the_pods_and_name_ports_that_they_have() {
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
fn add_ons_find_each_other_and_a_url_of_the_user_wins() {
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

    let theirs = json!({"prometheus": {"url": "https://metrics.example.com/prom"}});
    let mut beside = all();
    beside[2]["values"] = theirs.clone();
    let beside = releases(json!({"addons": beside}));
    assert_eq!(url(&beside, AddOnName::Kiali, "prometheus.url").unwrap(), "https://metrics.example.com/prom");
    let alone = releases(json!({"addons": [{"name": "kiali", "values": theirs}]}));
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
fn what_shows_metrics_needs_a_prometheus() {
    for name in ["grafana", "kiali"] {
        let wanted = format!("spec.addons[{name}].values.prometheus.url: {name} shows what Prometheus knows");
        for values in [json!({}), json!({"prometheus": {"url": ""}})] {
            let said = problems(json!({"addons": [{"name": name, "values": values}]}));
            assert!(said.len() == 1 && said[0].starts_with(&wanted), "{said:?}");
        }
    }
}

#[test]
fn a_wrong_value_is_named() {
    let said = |name: &str, values: Value| {
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
        let found = said(name, values);
        assert!(found.starts_with(&format!("spec.addons[{name}].values: {start}")), "{found}");
    }
    assert_eq!(
        said("jaeger", json!({"mesh": {}})),
        "spec.addons[jaeger].values.mesh: is set by the operator; leave it out"
    );
}

#[test]
fn pull_policy_and_secrets_of_the_spec_are_the_pods_and_images_are_the_values() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = json!({"repository": "registry.example.com:5000/tools/jaeger", "digest": digest});
    let images = json!({"pullPolicy": "Always", "pullSecrets": ["key"]});
    let release = releases(json!({"images": images, "addons": [{"name": "jaeger", "values": {"image": image}}]}));
    let objects = objects(&release[0]);
    let pod = &find(&objects, "Deployment", "jaeger")["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "key"}]));
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["containers"][0]["image"], format!("registry.example.com:5000/tools/jaeger@{digest}"));
}

#[test]
fn every_image_comes_from_the_registry_of_the_spec_by_its_digest_unless_the_values_say_more() {
    let image = |release: &AddOnRelease| {
        let deployment = find(&objects(release), "Deployment", release.name.as_str()).clone();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let digests = AddOnName::ALL.map(|name| (name.as_str().to_owned(), json!(digest)));
    let digests = Value::Object(digests.into_iter().collect());
    let registry = "mirror.example.com:5000/istio";
    for name in AddOnName::ALL {
        let one = |images: Value, values: &Value| {
            let needed = json!({"prometheus": {"url": "http://prometheus.example.com"}});
            let mut values = values.clone();
            if [AddOnName::Grafana, AddOnName::Kiali].contains(&name) {
                merge(&mut values, needed);
            }
            image(&releases(json!({"images": images, "addons": [{"name": name, "values": values}]}))[0])
        };
        let own = one(json!({}), &json!({}));
        // What a copy of it is called below a registry: by the last part of its name.
        let (_, last) = own.rsplit_once('/').unwrap();
        assert_eq!(one(json!({"registry": registry}), &json!({})), format!("{registry}/{last}"));
        let pinned = format!("{registry}/{}@{digest}", name.as_str());
        assert_eq!(one(json!({"registry": registry, "digests": digests}), &json!({})), pinned);
        let theirs = json!({"image": {"repository": "tools.example.com/x", "tag": "1"}});
        assert_eq!(one(json!({"registry": registry}), &theirs), "tools.example.com/x:1");
        let tag = json!({"image": {"tag": "1"}});
        assert_eq!(one(json!({"registry": registry}), &tag), format!("{registry}/{}:1", name.as_str()));
    }
}

#[test]
fn prometheus_looks_at_istiod_of_its_mesh_at_proxies_and_at_the_operator() {
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
fn proxies_are_told_of_jaeger_and_a_user_s_choice_stays() {
    let provided = |spec_rest: Value, mut values: Value| {
        provide_tracing(&spec(spec_rest), &mut values);
        values
    };
    let jaeger = json!({"namespace": "mesh", "addons": [{"name": "jaeger"}]});
    let ours = json!({"name": "jaeger", "opentelemetry": {"service": "jaeger-collector.mesh.svc.cluster.local", "port": 4317}});
    let wanted = json!({"meshConfig": {"extensionProviders": [ours], "defaultProviders": {"tracing": ["jaeger"]}}});
    assert_eq!(provided(jaeger.clone(), json!({})), wanted);
    assert_eq!(provided(json!({}), json!({})), json!({}));

    let other = json!({"name": "zipkin"});
    let theirs = json!({"meshConfig": {"extensionProviders": [other], "defaultProviders": {"tracing": ["zipkin"]}}});
    let both = provided(jaeger.clone(), theirs);
    assert_eq!(both["meshConfig"]["extensionProviders"], json!([other, ours]));
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
fn pods_follow_their_configuration_and_nothing_else() {
    let stamp = |rest: Value| {
        let release = releases(json!({"addons": [{"name": "prometheus", "values": rest}]})).remove(0);
        let mut objects: Vec<(&str, Value)> = objects(&release).into_iter().map(|o| ("", o)).collect();
        configure_pods(&mut objects);
        let deployment = objects.iter().find(|(_, o)| o["kind"] == "Deployment").unwrap().1.clone();
        deployment["spec"]["template"]["metadata"]["annotations"][CONFIGURATION_ANNOTATION].clone()
    };
    assert!(stamp(json!({})).is_string());
    assert_eq!(stamp(json!({})), stamp(json!({"retention": "7d"})));
    assert_ne!(stamp(json!({})), stamp(json!({"scrapeInterval": "30s"})));
}

/// Names of metrics of ours in a text.
fn ours(text: &str) -> BTreeSet<String> {
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
fn alerts_and_dashboards_name_only_metrics_that_the_operator_has() {
    use crate::runtime::leader::LeaderState;
    use crate::runtime::metrics::{Metrics, ProbeResult, ReconcileResult, WriteVerb};
    let metrics = Metrics::new();
    metrics.reconciled(ReconcileResult::Unchanged, std::time::Duration::from_millis(3));
    metrics.wrote(WriteVerb::Apply);
    metrics.healed("Deployment");
    metrics.probed(ProbeResult::Proved);
    metrics.set_leader(&LeaderState::Leading);
    metrics.set_watched("Pod", 1);
    metrics.set_proxies(&[("1.31.2".to_owned(), 1)].into());
    metrics.read_conditions_from(Box::new(|| vec![("mesh".to_owned(), vec![condition()])]));
    let told = metrics.encode().unwrap();
    let known: BTreeSet<String> =
        told.lines().filter(|line| !line.starts_with('#')).filter_map(|line| ours(line).pop_first()).collect();
    let releases = releases(json!({"addons": all()}));
    for (name, key) in [(AddOnName::Prometheus, "alerts.yml"), (AddOnName::Grafana, "operator.json")] {
        let release = releases.iter().find(|release| release.name == name).unwrap();
        let named = ours(&text(release, key));
        assert!(named.len() > 3 && named.is_subset(&known), "{key}: {:?}", named.difference(&known));
    }
}

proptest! {
    /// Texts of the user end in the document as they are, or are refused.
    #[test]
    fn no_value_breaks_the_document(url in "https?://[a-z]{1,5}[ -~]{0,12}", label in "[ -~]{1,12}") {
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
fn the_document_names_versions_and_images() {
    let document = include_str!("../../../../docs/addons.md");
    for release in releases(json!({"addons": all()})) {
        let pod = find(&objects(&release), "Deployment", release.name.as_str())["spec"]["template"]["spec"].clone();
        let image = pod["containers"][0]["image"].as_str().unwrap();
        let row = format!("| {} | {} | `{image}` |", release.name.as_str(), release.version);
        assert!(document.contains(&row), "{row}");
    }
}
