//! `meshwright plan` on a real API server: it shows what the operator would do without doing it.

use std::path::Path;

use kube::api::{Patch, PatchParams};
use meshwright_api::conditions::ConditionType;
use meshwright_e2e::mesh::{LAB_1_31, LAB_1_32, Mesh, NAME, VERSION};
use meshwright_e2e::{Lab, LabOptions, TestResult, run};
use serde_json::{Value, json};

use crate::cli::{CommandOutput, account, allow, file, meshwright};

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
    if let Some(field) = spec.pointer_mut(path) {
        *field = value;
    }
    spec
}

async fn plan(kubeconfig: &Path, args: &[&str]) -> TestResult<(Value, CommandOutput)> {
    let args: Vec<&str> = ["plan", "-o", "json"].into_iter().chain(args.iter().copied()).collect();
    let output = meshwright(kubeconfig, &args).await?;
    let report = serde_json::from_str(&output.stdout)
        .map_err(|error| format!("{error}: {} {}", output.stdout, output.stderr))?;
    Ok((report, output))
}

async fn plan_of(lab: &Lab, spec: &Value) -> TestResult<(Value, CommandOutput)> {
    let (_dir, path) = file(NAME, spec, &json!({}))?;
    plan(lab.kubeconfig(), &["-f", &path]).await
}

/// Changes in a report, each as `Action Kind name` with the paths of its fields.
fn changes(report: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |change: &Value| ["action", "kind", "name"].map(|field| text(&change[field])).join(" ");
    let paths = |change: &Value| list(&change["fields"]).iter().map(|field| text(&field["path"])).collect();
    list(&report["changes"]).iter().map(|change| (name(change), paths(change))).collect()
}

/// Rollouts in a report, each as `Action name: reason`.
fn rollouts(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let describe = |rollout: &Value| {
        format!("{} {}: {}", text(&rollout["action"]), text(&rollout["name"]), text(&rollout["because"]))
    };
    report["rollouts"].as_array().into_iter().flatten().map(describe).collect()
}

#[test]
fn plans_installation_and_reports_invalid_files() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let (report, output) = plan_of(lab, &spec()).await?;
        assert_eq!((output.code, &report["verdict"]), (Some(2), &json!("Changes")), "{}", output.stderr);
        let all = changes(&report);
        assert!(all.len() > 40 && all.iter().all(|(name, _)| name.starts_with("Create ")), "{all:#?}");
        assert_eq!(
            rollouts(&report),
            ["Start istiod: new workload", "Start ingress: new workload", "Start second: new workload"]
        );
        // Discovering the node port range needs more than read requests, so that port stays open.
        assert!(report["notes"].to_string().contains("edge/ingress/https"), "{}", report["notes"]);

        let (_dir, path) = file(NAME, &json!({"version": VERSION, "profil": "demo"}), &json!({}))?;
        let bad = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert_eq!((bad.code, bad.stdout.as_str()), (Some(1), ""));
        assert!(bad.stderr.contains("spec.profil: unknown"), "{}", bad.stderr);
        let none = meshwright(lab.kubeconfig(), &["plan", NAME]).await?;
        assert!(none.code == Some(1) && none.stderr.contains("not found"), "{}", none.stderr);
        let (_dir, path) = file(NAME, &json!({"version": "1.31.7"}), &json!({}))?;
        let unknown = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert!(
            unknown.code == Some(1) && unknown.stderr.contains("VersionNotInCatalog: spec.version"),
            "{}",
            unknown.stderr
        );
        Ok(())
    });
}

#[test]
fn plans_changes_of_running_mesh() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        mesh.wait_ready(NAME).await?;
        let (_dir, path) = file(NAME, &spec(), &json!({}))?;
        for args in [vec!["-f", path.as_str()], vec![NAME], vec![NAME, "--version", VERSION]] {
            let (report, output) = plan(lab.kubeconfig(), &args).await?;
            assert_eq!((output.code, &report["verdict"]), (Some(0), &json!("Nothing")), "{}", output.stdout);
            assert_eq!((&report["marksOnly"], &report["notes"]), (&json!(0), &json!([])));
        }
        let text = meshwright(lab.kubeconfig(), &["plan", NAME]).await?;
        assert!(text.stdout.ends_with("\nno changes\n"), "{}", text.stdout);

        let (report, output) = plan(lab.kubeconfig(), &[NAME, "--version", LAB_1_31]).await?;
        assert_eq!((output.code, &report["verdict"]), (Some(1), &json!("Refused")), "{}", output.stdout);
        let refusal = &report["refusals"][0];
        assert_eq!(refusal["reason"], "UpgradeNotAllowed");
        assert!(refusal["message"].as_str().is_some_and(|message| message.contains("[Downgrade]")), "{refusal}");

        let env = "spec.template.spec.containers[name=discovery].env";
        let proxy_inputs = "spec.template.metadata.annotations[\"meshwright.dev/proxy-inputs\"]";
        for (change, objects, rolled) in [
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
            let (report, output) = plan_of(lab, &with("/controlPlane", change)).await?;
            assert_eq!(output.code, Some(2), "{}", output.stderr);
            let found = changes(&report);
            // The chart also stores its values in ConfigMaps; only istiod's objects are compared.
            let found = found.iter().filter(|(name, _)| name.ends_with(" istiod"));
            let found: Vec<_> = found.map(|(name, paths)| (name.as_str(), paths.clone())).collect();
            assert_eq!((found, rollouts(&report).first()), (objects, Some(&rolled)));
        }

        let mut debug = spec();
        debug["proxy"] = json!({"logLevel": "debug"});
        let (report, _) = plan_of(lab, &debug).await?;
        let inputs = "the injection inputs of its proxy change";
        assert_eq!(rollouts(&report), [format!("Roll ingress: {inputs}"), format!("Roll second: {inputs}")]);
        let names: Vec<(String, Vec<String>)> = changes(&report);
        assert!(names.contains(&("Update Deployment second".into(), vec![proxy_inputs.into()])), "{names:#?}");
        let (_dir, path) = file(NAME, &debug, &json!({}))?;
        let text = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        let injector =
            text.stdout.split("\n~ ").find(|part| part.starts_with("ConfigMap istio-system/istio-sidecar-injector\n"));
        assert!(injector.is_some_and(|part| part.contains("\n    ~ data.values:\n")), "{}", text.stdout);
        assert!(
            text.stdout.contains("\"logLevel\": \"warning\"") && text.stdout.contains("\"logLevel\": \"debug\""),
            "{}",
            text.stdout
        );

        let gateways = spec()["gateways"].clone();
        let (report, _) = plan_of(lab, &with("/gateways", json!([gateways[0]]))).await?;
        let deleted = changes(&report);
        assert!(
            deleted.len() >= 4
                && deleted.iter().all(|(name, _)| name.starts_with("Delete ") && name.ends_with("second")),
            "{deleted:#?}"
        );
        assert_eq!(rollouts(&report), ["End second: no longer in the spec"]);

        let rolled = with("/gateways/0/service/ports/0/nodePort", json!(30402));
        let (report, _) = plan_of(lab, &rolled).await?;
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
        let rejected = meshwright(lab.kubeconfig(), &["plan", "-f", &path]).await?;
        assert!(rejected.code == Some(1) && rejected.stderr.contains("namespace is immutable"), "{}", rejected.stderr);
        Ok(())
    });
}

#[test]
fn plan_shows_drift() {
    run(LabOptions::default(), async |lab| {
        let mesh = Mesh::install(lab).await?;
        let mut paused = meshwright_e2e::mesh::demo_spec();
        paused["paused"] = json!(true);
        mesh.apply(NAME, paused).await?;
        mesh.wait_for(NAME, ConditionType::Ready, "True", None).await?;
        let edit = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "discovery", "image": "registry.example/pilot:edited"}, {"name": "added", "image": "registry.example/x:1"}]}}}});
        let params = PatchParams { field_manager: Some("another-manager".into()), ..PatchParams::default() };
        let deployments = mesh.api("apps/v1", "Deployment", Some("istio-system"));
        deployments.patch("istiod", &params, &Patch::Strategic(&edit)).await?;
        mesh.api("v1", "ConfigMap", Some("istio-system")).delete("values", &Default::default()).await?;

        let (report, output) = plan(lab.kubeconfig(), &[NAME]).await?;
        assert_eq!(output.code, Some(2), "{}", output.stderr);
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
fn plan_needs_only_read_permissions() {
    run(LabOptions::default().audited(), async |lab| {
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        mesh.wait_ready(NAME).await?;
        let reading = |groups: &[&str]| json!([{"apiGroups": groups, "resources": ["*"], "verbs": ["get", "list"]}]);
        let (_dir, kubeconfig) = account(lab, "reader", &reading(&["*"])).await?;
        let mut changed = with("/gateways/0/name", json!("renamed"));
        changed["nodePorts"] = json!({"reserved": ["30410"]});
        let (_dir, path) = file(NAME, &changed, &json!({}))?;
        for args in [vec!["-f", path.as_str()], vec![NAME]] {
            let (report, output) = plan(&kubeconfig, &args).await?;
            assert_eq!(output.code, Some(if args[0] == "-f" { 2 } else { 0 }), "{}", output.stderr);
            // Without a permission to write, the changed objects are not sent in a dry run.
            let notes = report["notes"].to_string();
            let expected = ["not checked: needs", "patch on", "in namespace edge"];
            let found = expected.iter().filter(|words| notes.contains(**words)).count();
            assert_eq!(found, if args[0] == "-f" { expected.len() } else { 0 }, "{notes}");
        }
        let audit = lab.settled_audit().await?;
        let requests: Vec<_> = audit.by("system:serviceaccount:default:reader").collect();
        let is_read = |verb: &str| ["get", "list"].contains(&verb);
        let other: Vec<_> =
            requests.iter().filter(|entry| !is_read(&entry.verb) && entry.group != "authorization.k8s.io").collect();
        assert!(requests.len() > 20 && other.is_empty(), "{} requests; {other:#?}", requests.len());

        allow(lab, "reader", &reading(&["", "meshwright.dev", "admissionregistration.k8s.io", "apps"])).await?;
        let output = meshwright(&kubeconfig, &["plan", NAME]).await?;
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
        for kind in ["customresourcedefinitions", "clusterroles", "horizontalpodautoscalers"] {
            assert!(output.stderr.contains(&format!("cannot list resource \"{kind}\"")), "{}", output.stderr);
        }
        Ok(())
    });
}

#[test]
fn plan_shows_upgrade_steps() {
    run(LabOptions::default(), async |lab| {
        let of = |version: &str| {
            let gateway = json!({"name": "ingress", "namespace": "edge", "service": {"type": "ClusterIP"}});
            json!({"version": version, "profile": "demo", "gateways": [gateway]})
        };
        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, of(LAB_1_31)).await?;
        mesh.wait_ready(NAME).await?;

        let (report, output) = plan(lab.kubeconfig(), &[NAME, "--version", LAB_1_32]).await?;
        assert_eq!(
            (output.code, &report["verdict"]),
            (Some(2), &json!("Changes")),
            "{}{}",
            output.stdout,
            output.stderr
        );
        assert_eq!((&report["running"], &report["wanted"]), (&json!(LAB_1_31), &json!(LAB_1_32)));
        assert!(report["notes"].to_string().contains("Istio 1.32: "), "{}", report["notes"]);
        let rolled: Vec<String> =
            rollouts(&report).iter().map(|pods| pods.split(':').next().unwrap_or_default().into()).collect();
        assert_eq!(rolled, ["Roll istiod", "Roll ingress"]);
        let found = changes(&report);
        assert!(found.contains(&("Delete ConfigMap istio-lab-of-1.31".to_owned(), vec![])), "{found:#?}");
        let image = "spec.template.spec.containers[name=discovery].image".to_owned();
        assert!(
            found.iter().any(|(name, paths)| name == "Update Deployment istiod" && paths.contains(&image)),
            "{found:#?}"
        );
        let steps = report["steps"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
        let order = ["RBAC", "ControlPlane", "Configuration", "InjectionCheck", "Gateway ingress", "CleanUp"];
        let found_steps: Vec<&str> = names.iter().copied().filter(|name| order.contains(name)).collect();
        assert_eq!((found_steps.as_slice(), names.last()), (order.as_slice(), Some(&"CleanUp")), "{names:?}");
        let written: usize = steps.iter().filter_map(|step| Some(step["writes"].as_array()?.len())).sum();
        assert_eq!(written, found.len(), "every change should belong to a step: {steps:#?}");

        // A canary upgrade removes the old revision only when no pod uses it.
        let mut canary = of(LAB_1_32);
        canary["upgrade"] = json!({"strategy": "Canary", "retireAfter": "7m"});
        let (report, output) = plan_of(lab, &canary).await?;
        assert_eq!(output.code, Some(2), "{}{}", output.stdout, output.stderr);
        let retirement = "when no pod has used revision default for 7m";
        let rolled = rollouts(&report);
        assert_eq!(rolled.first().map(String::as_str), Some("Start istiod-1-32-0-lab-1: new workload"));
        assert_eq!(rolled.last(), Some(&format!("End istiod: {retirement}")));
        let step = |name: &str| {
            let mut steps = report["steps"].as_array().into_iter().flatten();
            steps.rfind(|step| step["step"] == name).cloned().unwrap_or_default()
        };
        let injector = "MutatingWebhookConfiguration istio-sidecar-injector";
        assert!(step("ControlPlane")["note"].as_str().is_some_and(|note| note.contains("default keeps serving")));
        assert!(
            step("Tags")["writes"].as_array().is_some_and(|writes| writes.contains(&json!(injector))),
            "{report:#}"
        );
        assert_eq!(step("CleanUp")["note"], retirement);
        let deployment = json!("Deployment istio-system/istiod");
        assert!(step("CleanUp")["writes"].as_array().is_some_and(|writes| writes.contains(&deployment)), "{report:#}");

        mesh.apply(NAME, of(LAB_1_32)).await?;
        mesh.wait_ready(NAME).await?;
        let (report, output) = plan(lab.kubeconfig(), &[NAME]).await?;
        assert_eq!((output.code, &report["verdict"]), (Some(0), &json!("Nothing")), "{}", output.stdout);
        Ok(())
    });
}
