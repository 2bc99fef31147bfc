//! `meshwright check` on a real API server: it reports nothing for a clean cluster, and the problems of another one.

use kube::api::{Api, PostParams};
use meshwright_e2e::mesh::{Mesh, NAME, VERSION};
use meshwright_e2e::{LabOptions, objects, run};
use serde_json::{Value, json};

use crate::cli::{account, check, check_as, file, meshwright};

fn spec() -> Value {
    json!({"version": VERSION, "profile": "demo", "gateways": [{"name": "ingress", "service": {"type": "ClusterIP"}}]})
}

/// Findings with a verdict other than Pass, as `check verdict subject`.
fn problems(findings: &[Value]) -> Vec<String> {
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let failed = findings.iter().filter(|finding| finding["verdict"] != "Pass");
    failed.map(|f| format!("{} {} {}", text(f, "check"), text(f, "verdict"), text(f, "subject"))).collect()
}

/// The finding of a check whose subject contains a text; null if there is none.
fn finding<'a>(findings: &'a [Value], check: &str, subject: &str) -> &'a Value {
    let matches = |f: &&Value| f["check"] == check && f["subject"].as_str().is_some_and(|s| s.contains(subject));
    findings.iter().find(matches).unwrap_or(&Value::Null)
}

#[test]
fn passes_with_and_without_healthy_mesh() {
    run(LabOptions::default(), async |lab| {
        let (_dir, path) = file(NAME, &spec(), &json!({}))?;
        for args in [vec![], vec!["-f", path.as_str()]] {
            let (findings, code) = check(lab, &args).await?;
            assert_eq!((problems(&findings), code), (vec![], Some(0)), "{args:?}");
            assert!(findings.len() >= 8, "every group reports a finding: {findings:#?}");
            assert!(
                finding(&findings, "permissions", "the current user")["reason"]
                    .as_str()
                    .is_some_and(|r| r.starts_with("all "))
            );
        }
        let text = meshwright(lab.kubeconfig(), &["check", "-f", &path]).await?;
        assert_eq!(text.code, Some(0), "{}", text.stderr);
        assert!(text.stdout.lines().all(|line| line.chars().count() <= 100), "{}", text.stdout);
        assert!(text.stdout.starts_with("PASS     kubernetes-version"), "{}", text.stdout);

        let mesh = Mesh::install_operator(lab).await?;
        mesh.apply(NAME, spec()).await?;
        mesh.wait_ready(NAME).await?;
        let (findings, code) = check(lab, &["-f", &path]).await?;
        assert_eq!((problems(&findings), code), (vec![], Some(0)), "our own mesh is no problem");
        assert_eq!(finding(&findings, "permissions", "meshwright-system/meshwright")["verdict"], "Pass");

        let bindings = mesh.api("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None);
        bindings.delete("meshwright", &Default::default()).await?;
        let (findings, code) = check(lab, &["-f", &path]).await?;
        let missing = finding(&findings, "permissions", "meshwright-system/meshwright");
        assert_eq!((missing["verdict"].as_str(), code), (Some("Fail"), Some(2)));
        assert!(missing["fix"].as_str().is_some_and(|fix| fix.contains("meshwright rbac")), "{missing:#}");
        Ok(())
    });
}

const UNMANAGED_OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled, pod-security.kubernetes.io/enforce: baseline}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: istiod, namespace: istio-system}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: istiod
  namespace: istio-system
  labels: {app: istiod, istio: pilot, app.kubernetes.io/version: 1.28.1}
  annotations: {meta.helm.sh/release-name: istiod, meta.helm.sh/release-namespace: istio-system}
spec:
  replicas: 0
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod}}
    spec: {containers: [{name: discovery, image: registry.example/pilot:1}]}
---
apiVersion: v1
kind: Secret
type: helm.sh/release.v1
metadata:
  name: sh.helm.release.v1.istiod.v1
  namespace: istio-system
  labels: {name: istiod, owner: helm, status: deployed, version: "1"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: istiod-istio-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: istiod-service-account, namespace: istio-system}
---
apiVersion: v1
kind: Secret
type: istio.io/key-and-cert
metadata: {name: istio.default, namespace: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: rules.config.istio.io
  annotations: {api-approved.kubernetes.io: unapproved}
spec:
  group: config.istio.io
  scope: Namespaced
  names: {kind: rule, listKind: ruleList, plural: rules, singular: rule}
  versions:
    - name: v1alpha2
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
  - name: policy.example.com
    admissionReviewVersions: [v1]
    sideEffects: None
    clientConfig: {service: {namespace: policy, name: server}}
    rules: [{apiGroups: [apps], apiVersions: ["*"], resources: [deployments], operations: [CREATE]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector}
webhooks:
  - name: namespace.sidecar-injector.istio.io
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Ignore
    clientConfig: {service: {namespace: istio-system, name: istiod}}
    namespaceSelector: {matchLabels: {istio-injection: enabled}}
    rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
"#;

const SERVICE_WITH_NODE_PORT: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: default}
spec: {type: NodePort, ports: [{name: http, port: 80, nodePort: 30431}]}
";

#[test]
fn checks_node_ports_against_range_and_services() {
    run(LabOptions::default().node_port_range("30400-30449"), async |lab| {
        lab.apply_yaml("api", SERVICE_WITH_NODE_PORT).await?;
        let gateway = |port: i32| {
            let ports = json!([{"name": "http2", "port": 80, "nodePort": port}, {"name": "https", "port": 443}]);
            json!({"version": VERSION, "gateways": [{"name": "ingress", "service": {"type": "NodePort", "ports": ports}}]})
        };
        for (port, code, text) in [
            (30401, 0, "30401 for istio-system/ingress/http2"),
            (30431, 2, "30431 is used by port http of Service default/api"),
            (31380, 2, "30400-30449"),
        ] {
            let (_dir, path) = file(NAME, &gateway(port), &json!({}))?;
            let (findings, status) = check(lab, &["-f", &path]).await?;
            assert_eq!(status, Some(code), "{findings:#?}");
            assert_eq!(finding(&findings, "node-ports", "range")["reason"], "30400-30449, 49 of 50 ports are free");
            let wanted = finding(&findings, "node-ports", "gateways");
            assert!(wanted["reason"].as_str().is_some_and(|reason| reason.contains(text)), "{port}: {findings:#?}");
        }
        let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(lab.client(), "default");
        let names: Vec<_> =
            services.list(&Default::default()).await?.into_iter().filter_map(|s| s.metadata.name).collect();
        assert_eq!(names, ["api", "kubernetes"], "the dry run created no Service");
        Ok(())
    });
}

#[test]
fn reports_blockers_with_remedies() {
    run(LabOptions::default(), async |lab| {
        lab.apply_yaml("unmanaged objects", UNMANAGED_OBJECTS).await?;
        let (_dir, path) = file(NAME, &spec(), &json!({}))?;
        let (findings, code) = check(lab, &["-f", &path]).await?;
        assert_eq!(code, Some(2), "{findings:#?}");
        for (group, verdict, subject, fix) in [
            ("existing-mesh", "Fail", "Deployment istio-system/istiod", "helm uninstall istiod"),
            ("existing-mesh", "Fail", "Helm release istio-system/istiod", "helm uninstall istiod"),
            ("leftovers", "Warn", "ClusterRole istiod-istio-system", "kubectl delete clusterrole istiod-istio-system"),
            ("leftovers", "Warn", "istiod-service-account", "--namespace istio-system"),
            ("leftovers", "Warn", "1 CRD of config.istio.io", "rules.config.istio.io"),
            ("leftovers", "Warn", "1 Secret", "istio.io/key-and-cert"),
            ("unmanaged-resources", "Fail", "Deployment istio-system/istiod", "helm uninstall istiod"),
            (
                "unmanaged-resources",
                "Fail",
                "ServiceAccount istio-system/istiod",
                "kubectl delete serviceaccount istiod",
            ),
            ("pod-security", "Warn", "Namespace istio-system (restricted)", "seccompProfile"),
            ("pod-security", "Fail", "Namespace shop (baseline)", "kubectl label namespace shop"),
            ("webhooks", "Fail", "(policy.example.com)", "kubectl delete validatingwebhookconfiguration policy"),
            ("injectors", "Fail", "istio-sidecar-injector", "kubectl delete mutatingwebhookconfiguration"),
        ] {
            let found = finding(&findings, group, subject);
            assert_eq!(found["verdict"], verdict, "{group} of {subject}: {findings:#?}");
            assert!(found["fix"].as_str().is_some_and(|text| text.contains(fix)), "{found:#}");
        }
        assert_eq!(finding(&findings, "kubernetes-version", "Kubernetes")["verdict"], "Pass");

        let old = json!({"version": "1.13.9", "profile": "demo"});
        let (_dir, path) = file(NAME, &old, &json!({}))?;
        let (findings, code) = check(lab, &["-f", &path]).await?;
        assert_eq!(
            (finding(&findings, "kubernetes-version", "Kubernetes")["verdict"].as_str(), code),
            (Some("Fail"), Some(2))
        );
        Ok(())
    });
}

#[test]
fn reports_missing_permissions_and_skipped_checks() {
    run(LabOptions::default(), async |lab| {
        let rules =
            json!([{"apiGroups": ["", "apps"], "resources": ["namespaces", "deployments"], "verbs": ["get", "list"]}]);
        let (_dir, kubeconfig) = account(lab, "visitor", &rules).await?;
        let (findings, code) = check_as(&kubeconfig, &[]).await?;
        assert_eq!(code, Some(2));
        let missing: Vec<&str> = findings
            .iter()
            .filter(|finding| finding["check"] == "permissions" && finding["verdict"] == "Fail")
            .filter_map(|finding| finding["reason"].as_str())
            .collect();
        let reported = |verbs: &str, what: &str| missing.iter().any(|r| r.starts_with(verbs) && r.contains(what));
        assert!(reported("is not allowed to create", " services"), "{missing:#?}");
        // Granted permissions are not reported: the visitor may get and list namespaces.
        let of_namespaces = missing.iter().filter(|reason| reason.contains(" namespaces"));
        let of_namespaces: Vec<&str> = of_namespaces.filter_map(|reason| reason.split(" namespaces").next()).collect();
        assert!(
            of_namespaces.iter().any(|verbs| verbs.contains("watch"))
                && !of_namespaces.iter().any(|v| v.contains("list")),
            "{missing:#?}"
        );
        let unseen: Vec<&Value> = findings.iter().filter(|finding| finding["verdict"] == "Unknown").collect();
        assert!(unseen.iter().any(|finding| finding["check"] == "webhooks"), "{findings:#?}");
        assert!(unseen.iter().any(|f| f["reason"].as_str().is_some_and(|r| r.contains("cannot list resource"))));
        assert!(!findings.iter().any(|finding| finding["check"] == "leftovers" && finding["verdict"] == "Pass"));
        Ok(())
    });
}

const APPS: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: web, port: 80}, {name: http, port: 81}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {name: cart}}
  template:
    metadata: {labels: {name: cart}}
    spec: {securityContext: {runAsUser: 1337}, containers: [{name: app, image: registry.example/app:1}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {name: agent}}
  template:
    metadata: {labels: {name: agent}}
    spec: {hostNetwork: true, containers: [{name: app, image: registry.example/app:1}]}
";

#[test]
fn reports_incompatible_workloads() {
    run(LabOptions::default(), async |lab| {
        let client = lab.client();
        let (findings, code) = check(lab, &["--workloads"]).await?;
        assert_eq!((problems(&findings), code), (vec![], Some(0)));

        objects::namespace(&client, "shop", &[]).await?;
        lab.apply_yaml("apps", APPS).await?;
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, "shop");
        pods.create(&PostParams::default(), &objects::pod("job", &[("app", "job"), ("version", "1")])).await?;
        let (findings, code) = check(lab, &["--workloads"]).await?;
        assert_eq!(code, Some(2));
        let expected = [
            "host-network Warn DaemonSet shop/agent",
            "workload-labels Warn Deployment shop/cart",
            "proxy-uid Fail Deployment shop/cart",
            "service-port-protocol Warn Service shop/cart",
            "bare-pod Warn Pod shop/job",
        ];
        assert_eq!(problems(&findings), expected);
        assert!(findings.iter().all(|finding| finding["fix"].is_string()), "{findings:#?}");
        let (findings, code) = check(lab, &["--workloads", "--namespace", "default"]).await?;
        assert_eq!((problems(&findings), code), (vec![], Some(0)));
        Ok(())
    });
}
