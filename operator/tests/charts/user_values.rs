//! Values as users have them: every key that Istio or the operator sets is known, and legacy scopes render as in the charts.

use meshwright::catalog::{Catalog, ChartName, Profile};
use meshwright::mesh::merge::{get, merge, set};
use meshwright::mesh::object::Owner;
use meshwright::mesh::unknown_keys::unknown_keys;
use meshwright::mesh::validate::validate;
use meshwright::platform::{GENERIC, Platforms};
use meshwright_api::MeshInstallationSpec;
use meshwright_chart::{Capabilities, Limits, Release, Rendered, parse_yaml};
use serde_json::{Value, json};

use super::rendering::{ChartRenderer, catalog_dirs};

/// The key of a chart's values below which its defaults are.
const DEFAULTS: &str = "_internal_defaults_do_not_set";
/// The template that prints the values as they were given.
const GIVEN_VALUES: &str = "configmap-values.yaml";

fn spec(version: &str, fields: &Value) -> MeshInstallationSpec {
    let mut spec = json!({"version": version});
    merge(&mut spec, fields.clone());
    serde_json::from_value(spec).unwrap()
}

/// Fields of a spec that set values of a chart.
fn fields(chart: ChartName, values: &Value) -> Value {
    match chart {
        ChartName::Gateway => json!({"gateways": [{"name": "edge", "values": values}]}),
        other => json!({"values": {other.as_str(): values}}),
    }
}

fn unknown(renderer: &ChartRenderer, fields: &Value) -> Vec<String> {
    let version = renderer.version();
    let found = unknown_keys(&spec(version, fields), &version.parse().unwrap(), renderer.charts());
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn chart_defaults_have_no_unknown_key() {
    let catalog = Catalog::open(&catalog_dirs()).unwrap();
    for (renderer, release) in ChartRenderer::all().iter().zip(catalog.releases()) {
        for chart in release.charts().keys() {
            let path = release.directory().join("charts").join(chart.as_str()).join("values.yaml");
            let values = parse_yaml(&std::fs::read_to_string(path).unwrap()).unwrap();
            let defaults = get(&values, DEFAULTS).unwrap_or(&values);
            assert_eq!(unknown(renderer, &fields(*chart, defaults)), [""; 0], "{} {chart}", renderer.version());
        }
    }
}

#[test]
fn profiles_and_platforms_have_no_unknown_key() {
    let platforms = Platforms::bundled().unwrap();
    let profiles = ["default", "demo", "minimal", "ambient", "stable", "preview", "openshift", "openshift-ambient"];
    for renderer in ChartRenderer::all() {
        for chart in ChartName::ALL {
            let of_profile = |name: &&str| {
                let profile = spec(renderer.version(), &json!({"profile": name})).profile;
                Profile::get(profile).unwrap().values(chart).cloned()
            };
            let of_platforms = platforms.iter().flat_map(|platform| platform.values(chart)).cloned();
            for values in profiles.iter().filter_map(of_profile).chain(of_platforms) {
                assert_eq!(unknown(&renderer, &fields(chart, &values)), [""; 0], "{chart} {values}");
            }
        }
    }
}

#[test]
fn unknown_key_of_gateway_is_reported() {
    for renderer in ChartRenderer::all() {
        let values =
            json!({"service": {"nodePorts": {"http": 30080}}, "resources": {"limits": {"ephemeral-storage": "1"}}});
        let found = unknown(&renderer, &fields(ChartName::Gateway, &values));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("spec.gateways[edge].values.service.nodePorts: unknown key"), "{found:?}");
    }
}

/// The chart's output for values as Helm gets them, without the object that prints these.
fn rendered(renderer: &ChartRenderer, chart: ChartName, values: &Value) -> Vec<Rendered> {
    let release = Release { name: chart.as_str().into(), namespace: "istio-system".into() };
    let capabilities = Capabilities::of_version("v1.36.3");
    let all = renderer.charts()[&chart].render(&release, values, &capabilities, &Limits::default()).unwrap();
    all.into_iter().filter(|rendered| !rendered.template.ends_with(GIVEN_VALUES)).collect()
}

/// The chart values that the operator computes for a spec.
fn computed(renderer: &ChartRenderer, chart: ChartName, fields: &Value) -> Value {
    let (spec, version) = (spec(renderer.version(), fields), renderer.version().parse().unwrap());
    let owner = Owner { installation: "test".into(), uid: "uid".into(), release: version };
    let (profile, platforms) = (Profile::get(spec.profile).unwrap(), Platforms::bundled().unwrap());
    let validated = validate(&spec, owner, &profile, platforms.get(GENERIC).unwrap()).unwrap();
    validated.releases.into_iter().find(|release| release.chart == chart).unwrap().values
}

#[test]
fn legacy_scopes_render_as_in_charts() {
    let istiod = json!({
        "env": {"A": "top", "B": "top"}, "traceSampling": 3,
        "pilot": {
            "env": {"A": "pilot", "C": true}, "autoscaleMin": 2, "traceSampling": 50, "resources": {"requests": {"cpu": "1"}},
            "cni": {"enabled": true}, "nodeSelector": {"a": "b"}, "podAnnotations": {"c": "d"}, "configMap": true,
        },
        "global": {"proxy": {"logLevel": "debug"}, "istioNamespace": "istio-system"}, "cni": {"provider": "multus"},
        "revision": "",
    });
    let cni = json!({
        "excludeNamespaces": ["a"], "cni": {"cniBinDir": "/bin", "excludeNamespaces": ["b"], "repair": {"enabled": false}},
    });
    let cases = [
        (ChartName::Istiod, json!({}), istiod),
        (ChartName::Istiod, json!({"profile": "demo"}), json!({"profile": "demo", "pilot": {"traceSampling": 5}})),
        (ChartName::Cni, json!({"cni": {"mode": "Enabled"}}), cni),
    ];
    for renderer in ChartRenderer::all() {
        for (chart, more, values) in &cases {
            let mut fields = fields(*chart, values);
            merge(&mut fields, more.clone());
            let mut given = values.clone();
            if *chart == ChartName::Istiod && more.get("profile").is_none() {
                set(&mut given, "global.istioNamespace", "istio-system");
            }
            let own = rendered(&renderer, *chart, &computed(&renderer, *chart, &fields));
            assert_eq!(own, rendered(&renderer, *chart, &given), "{} {chart}", renderer.version());
        }
    }
}

#[test]
fn equal_keys_do_not_change_objects() {
    let equal = json!({
        "values": {
            "base": {"defaultRevision": "default"},
            "istiod": {"profile": "ambient", "global": {"istioNamespace": "istio-system"}, "revision": "",
                "pilot": {"env": {"PILOT_ENABLE_AMBIENT": true}}},
            "cni": {"profile": "ambient", "cni": {"ambient": {"enabled": true}}},
            "ztunnel": {"profile": "ambient", "resourceName": "ztunnel"},
        },
        "gateways": [{"name": "edge", "values": {"name": "edge", "kind": "Deployment", "service": {"type": "LoadBalancer"}}}],
    });
    for renderer in ChartRenderer::all() {
        let mut with_equal = json!({"profile": "ambient"});
        let plain = renderer.objects_of_workloads(&with_equal).unwrap();
        merge(&mut with_equal, equal.clone());
        assert_eq!(renderer.objects_of_workloads(&with_equal).unwrap(), plain, "{}", renderer.version());
    }
}
