//! `meshwright plan` on a real API server: it says what the operator would do, and does nothing.

use std::path::Path;

use kube::api::{Patch, PatchParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, VERSION};
use meshwright_e2e::{Lab, LabOptions, TestResult, run};
use serde_json::{Value, json};

use crate::cli::{Ran, account, allow, file, meshwright};

fn spec() -> Value {
    let ports = json!([{"name": "http2", "port": 80, "nodePort": 30401}, {"name": "https", "port": 443}]);
    let gateway = |name: &str, service: &Value| json!({"name": name, "namespace": "edge", "service": service});
    json!({
        "version": VERSION, "profile": "demo", "controlPlane": {"env": [{"name": "KEPT", "value": "1"}]},
        "gateways": [
            gateway("ingress", &json!({"type": "NodePort", "ports": ports})),
            gateway("second", &json!({"type": "ClusterIP"})),
        ],
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut spec = spec();
    if let Some(place) = spec.pointer_mut(path) {
        *place = value;
    }
    spec
}

async fn plan(kubeconfig: &Path, args: &[&str]) -> TestResult<(Value, Ran)> {
    let args: Vec<&str> = ["plan", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let ran = meshwright(kubeconfig, &args).await?;
    let report = serde_json::from_str(&ran.out).map_err(|error| format!("{error}: {} {}", ran.out, ran.err))?;
    Ok((report, ran))
}

async fn plan_of(lab: &Lab, spec: &Value) -> TestResult<(Value, Ran)> {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    plan(lab.kubeconfig(), &["-f", &path]).await
}

/// The changes of a report, each as `Action Kind name` with the places of its fields.
fn changes(report: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |change: &Value| ["action", "kind", "name"].map(|field| text(&change[field])).join(" ");
    let paths = |change: &Value| list(&change["fields"]).iter().map(|field| text(&field["path"])).collect();
    list(&report["changes"]).iter().map(|change| (name(change), paths(change))).collect()
}

/// The workloads whose pods move, each as `Action name: why`.
fn pods(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |rollout: &Value| {
        format!("{} {}: {}", text(&rollout["action"]), text(&rollout["name"]), text(&rollout["because"]))
    };
    report["rollouts"].as_array().into_iter().flatten().map(told).collect()
}

#[test]
fn before_there_is_a_mesh_all_is_to_be_created_and_a_bad_file_names_the_field() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let (report, ran) = plan_of(lab, &spec()).await?;
        assert_eq!((ran.code, &report["verdict"]), (Some(2), &json!("Changes")), "{}", ran.err);
        let all = changes(&report);
        assert!(all.len() > 40 && all.iter().all(|(name, _)| name.starts_with("Create ")), "{all:#?}");
        assert_eq!(pods(&report), ["Start istiod: it is new", "Start ingress: it is new", "Start second: it is new"]);
        // The API server's range isn't learnt, since that takes more than reading.
        assert!(report["notes"].to_string().contains("edge/ingress/https"), "{}", report["notes"]);

        let (_dir, path) = file(NAME, &json!({"version": VERSION, "profil": "demo"}), &json!({}))?;
        let bad = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert_eq!((bad.code, bad.out.as_str()), (Some(1), ""));
        assert!(bad.err.contains("spec.profil: unknown"), "{}", bad.err);
        let none = meshwright(lab.kubeconfig(), &["plan", NAME]).await?;
        assert!(none.code == Some(1) && none.err.contains("no MeshInstallation is called"), "{}", none.err);
        let (_dir, path) = file(NAME, &json!({"version": "1.31.7"}), &json!({}))?;
        let unknown = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert!(
            unknown.code == Some(1) && unknown.err.contains("VersionNotInCatalog: spec.version"),
            "{}",
            unknown.err
        );
        Ok(())
    });
}

#[test]
fn of_a_healthy_mesh_nothing_is_to_be_done_and_every_change_shows_with_the_pods_that_it_moves() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        mesh.wait_ready(NAME).await?;
        let (_dir, path) = file(NAME, &spec(), &json!({}))?;
        for args in [vec!["-f", path.as_str()], vec![NAME], vec![NAME, "--version", VERSION]] {
            let (report, ran) = plan(lab.kubeconfig(), &args).await?;
            assert_eq!((ran.code, &report["verdict"]), (Some(0), &json!("Nothing")), "{}", ran.out);
            assert_eq!((&report["marksOnly"], &report["notes"]), (&json!(0), &json!([])));
        }
        let text = meshwright(lab.kubeconfig(), &["plan", NAME]).await?;
        assert!(text.out.ends_with("\nnothing to change\n"), "{}", text.out);

        let (report, ran) = plan(lab.kubeconfig(), &[NAME, "--version", LAB_1_31]).await?;
        assert_eq!((ran.code, &report["verdict"]), (Some(1), &json!("Refused")), "{}", ran.out);
        let refusal = &report["refusals"][0];
        assert_eq!(refusal["reason"], "UpgradeRefused");
        assert!(refusal["message"].as_str().is_some_and(|message| message.contains("[Downgrade]")), "{refusal}");

        let env = "spec.template.spec.containers[name=discovery].env";
        let proxy_inputs = "spec.template.metadata.annotations[\"meshwright.dev/proxy-inputs\"]";
        for (change, objects, moved) in [
            (
                json!({"replicas": 2, "env": [{"name": "KEPT", "value": "1"}]}),
                vec![
                    ("Update Deployment istiod", vec!["spec.replicas".to_owned()]),
                    ("Create PodDisruptionBudget istiod", vec![]),
                ],
                "Scale istiod: spec.replicas changes".to_owned(),
            ),
            (
                json!({"env": [{"name": "NEW", "value": "2"}]}),
                vec![("Update Deployment istiod", vec![format!("{env}[name=KEPT]"), format!("{env}[name=NEW]")])],
                format!("Roll istiod: its pod template changes: {env}[name=KEPT] and 1 more"),
            ),
        ] {
            let (report, ran) = plan_of(lab, &with("/controlPlane", change)).await?;
            assert_eq!(ran.code, Some(2), "{}", ran.err);
            let found = changes(&report);
            // The chart also keeps its values in ConfigMaps.
            let found = found.iter().filter(|(name, _)| name.ends_with(" istiod"));
            let found: Vec<_> = found.map(|(name, paths)| (name.as_str(), paths.clone())).collect();
            assert_eq!((found, pods(&report).first()), (objects, Some(&moved)));
        }

        let mut louder = spec();
        louder["proxy"] = json!({"logLevel": "debug"});
        let (report, _) = plan_of(lab, &louder).await?;
        let inputs = "what the injector makes its proxy from changes";
        assert_eq!(pods(&report), [format!("Roll ingress: {inputs}"), format!("Roll second: {inputs}")]);
        let names: Vec<(String, Vec<String>)> = changes(&report);
        assert!(names.contains(&("Update Deployment second".into(), vec![proxy_inputs.into()])), "{names:#?}");
        let (_dir, path) = file(NAME, &louder, &json!({}))?;
        let text = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert!(
            text.out.contains("~ ConfigMap istio-system/istio-sidecar-injector\n    ~ data.values:\n"),
            "{}",
            text.out
        );
        assert!(
            text.out.contains("\"logLevel\": \"warning\"") && text.out.contains("\"logLevel\": \"debug\""),
            "{}",
            text.out
        );

        let gateways = spec()["gateways"].clone();
        let (report, _) = plan_of(lab, &with("/gateways", json!([gateways[0]]))).await?;
        let gone = changes(&report);
        assert!(
            gone.len() >= 4 && gone.iter().all(|(name, _)| name.starts_with("Delete ") && name.ends_with("second")),
            "{gone:#?}"
        );
        assert_eq!(pods(&report), ["End second: it is no longer asked for"]);

        let moved = with("/gateways/0/service/ports/0/nodePort", json!(30402));
        let (report, _) = plan_of(lab, &moved).await?;
        let expected = "spec.ports[port=80,protocol=TCP].nodePort".to_owned();
        assert_eq!(changes(&report)[0], ("Update Service ingress".to_owned(), vec![expected]));
        let (_dir, path) = file(
            NAME,
            &{
                let mut spec = spec();
                spec["namespace"] = json!("elsewhere");
                spec
            },
            &json!({}),
        )?;
        let refused = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert!(refused.code == Some(1) && refused.err.contains("namespace can't be changed"), "{}", refused.err);
        Ok(())
    });
}

#[test]
fn what_somebody_has_edited_shows_with_what_is_there_and_what_will_be() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::ready(lab).await?;
        let mut paused = meshwright_e2e::mesh::small();
        paused["paused"] = json!(true);
        mesh.apply(NAME, paused).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", None).await?;
        let edit = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "discovery", "image": "registry.example/pilot:edited"}, {"name": "added", "image": "registry.example/x:1"}]}}}});
        let params = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        deployments.patch("istiod", &params, &Patch::Strategic(&edit)).await?;
        mesh.api("v1", "ConfigMap", Some("istio-system")).delete("values", &Default::default()).await?;

        let (report, ran) = plan(lab.kubeconfig(), &[NAME]).await?;
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        let containers = "spec.template.spec.containers";
        let edited = vec![format!("{containers}[name=added]"), format!("{containers}[name=discovery].image")];
        let expected =
            [("Create ConfigMap values".to_owned(), vec![]), ("Update Deployment istiod".to_owned(), edited)];
        assert_eq!(changes(&report), expected);
        let image = &report["changes"][1]["fields"][1];
        assert_eq!(
            (image["action"].as_str(), &image["old"]),
            (Some("Changed"), &json!("registry.example/pilot:edited"))
        );
        assert!(report["notes"].to_string().contains("spec.paused"), "{}", report["notes"]);
        Ok(())
    });
}

#[test]
fn reading_is_all_that_it_does_and_needs_and_a_missing_right_is_named() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        mesh.wait_ready(NAME).await?;
        let reading = |groups: &[&str]| json!([{"apiGroups": groups, "resources": ["*"], "verbs": ["get", "list"]}]);
        let (_dir, kubeconfig) = account(lab, "reader", &reading(&["*"])).await?;
        let mut changed = with("/gateways/0/name", json!("renamed"));
        changed["nodePorts"] = json!({"reserved": ["30410"]});
        let (_dir, path) = file(NAME, &changed, &json!({}))?;
        for args in [vec!["-f", path.as_str()], vec![NAME]] {
            let (_, ran) = plan(&kubeconfig, &args).await?;
            assert_eq!(ran.code, Some(if args[0] == "-f" { 2 } else { 0 }), "{}", ran.err);
        }
        let audit = lab.settled_audit().await?;
        let asked: Vec<_> = audit.by("system:serviceaccount:default:reader").collect();
        let other: Vec<_> = asked.iter().filter(|entry| !["get", "list"].contains(&entry.verb.as_str())).collect();
        assert!(asked.len() > 20 && other.is_empty(), "{} requests; {other:#?}", asked.len());

        allow(lab, "reader", &reading(&["", "meshwright.dev", "admissionregistration.k8s.io", "apps"])).await?;
        let ran = meshwright(&kubeconfig, &["plan", NAME]).await?;
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        for kind in ["customresourcedefinitions", "clusterroles", "horizontalpodautoscalers"] {
            assert!(ran.err.contains(&format!("cannot list resource \"{kind}\"")), "{}", ran.err);
        }
        Ok(())
    });
}

#[test]
fn another_version_shows_its_steps_and_what_they_write_and_leaves_nothing_to_do_when_it_is_there() {
    run(LabOptions::default(), async |lab| {
        let of = |version: &str| {
            let gateway = json!({"name": "ingress", "namespace": "edge", "service": {"type": "ClusterIP"}});
            json!({"version": version, "profile": "demo", "gateways": [gateway]})
        };
        let mesh = Mesh::operator(lab).await?;
        mesh.apply(NAME, of(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;

        let (report, ran) = plan(lab.kubeconfig(), &[NAME, "--version", LAB_1_32]).await?;
        assert_eq!((ran.code, &report["verdict"]), (Some(2), &json!("Changes")), "{}{}", ran.out, ran.err);
        assert_eq!((&report["running"], &report["wanted"]), (&json!(LAB_1_31), &json!(LAB_1_32)));
        assert!(report["notes"].to_string().contains("Istio 1.32: "), "{}", report["notes"]);
        let moved: Vec<String> =
            pods(&report).iter().map(|pods| pods.split(':').next().unwrap_or_default().into()).collect();
        assert_eq!(moved, ["Roll istiod", "Roll ingress"]);
        let found = changes(&report);
        assert!(found.contains(&("Delete ConfigMap istio-lab-of-1.31".to_owned(), vec![])), "{found:#?}");
        let image = "spec.template.spec.containers[name=discovery].image".to_owned();
        assert!(
            found.iter().any(|(name, paths)| name == "Update Deployment istiod" && paths.contains(&image)),
            "{found:#?}"
        );
        let steps = report["steps"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
        let order = ["Rights", "ControlPlane", "Configuration", "Injection", "Gateway ingress", "CleanUp"];
        let among: Vec<&str> = names.iter().copied().filter(|name| order.contains(name)).collect();
        assert_eq!((among.as_slice(), names.last()), (order.as_slice(), Some(&"CleanUp")), "{names:?}");
        let written: usize = steps.iter().filter_map(|step| Some(step["writes"].as_array()?.len())).sum();
        assert_eq!(written, found.len(), "each change has its step: {steps:#?}");

        // As a canary: beside what runs, which goes when nobody uses it any more.
        let mut canary = of(LAB_1_32);
        canary["upgrade"] = json!({"strategy": "Canary", "retireAfter": "7m"});
        let (report, ran) = plan_of(lab, &canary).await?;
        assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
        let goes = "when no pod has used revision default for 7m";
        let moved = pods(&report);
        assert_eq!(moved.first().map(String::as_str), Some("Start istiod-1-32-0-lab-1: it is new"));
        assert_eq!(moved.last(), Some(&format!("End istiod: {goes}")));
        let step = |name: &str| {
            let mut steps = report["steps"].as_array().into_iter().flatten();
            steps.rfind(|step| step["step"] == name).cloned().unwrap_or_default()
        };
        let injector = "MutatingWebhookConfiguration istio-sidecar-injector";
        assert!(step("ControlPlane")["note"].as_str().is_some_and(|note| note.contains("default serves on")));
        assert!(
            step("Tags")["writes"].as_array().is_some_and(|writes| writes.contains(&json!(injector))),
            "{report:#}"
        );
        assert_eq!(step("CleanUp")["note"], goes);
        let deployment = json!("Deployment istio-system/istiod");
        assert!(step("CleanUp")["writes"].as_array().is_some_and(|writes| writes.contains(&deployment)), "{report:#}");

        mesh.apply(NAME, of(LAB_1_32)).await?;
        mesh.wait_ready(NAME).await?;
        let (report, ran) = plan(lab.kubeconfig(), &[NAME]).await?;
        assert_eq!((ran.code, &report["verdict"]), (Some(0), &json!("Nothing")), "{}", ran.out);
        Ok(())
    });
}
