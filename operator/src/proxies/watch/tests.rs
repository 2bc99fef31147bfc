use serde_json::json;

use super::*;
use crate::mesh::revisions::DEFAULT;

fn pod(uid: &str, version: &str) -> ProxyPod {
    let image = format!("istio/proxyv2:{version}");
    let pod = json!({
        "metadata": {"namespace": "shop", "name": uid, "uid": uid},
        "spec": {"containers": [{"name": "istio-proxy", "image": image}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn listed(pods: &[(&str, &str)]) -> ProxyWatcher {
    let (proxies, mut listed) = (ProxyWatcher::default(), ProxyIndex::default());
    proxies.handle(watcher::Event::Init, &mut listed);
    for (uid, version) in pods {
        proxies.handle(watcher::Event::InitApply(pod(uid, version)), &mut listed);
    }
    assert_eq!(proxies.summary(&[DEFAULT.to_owned()], "1.32.0"), None, "the list is incomplete");
    proxies.handle(watcher::Event::InitDone, &mut listed);
    proxies
}

fn versions(proxies: &ProxyWatcher) -> Vec<String> {
    proxies.reported("mesh", &[DEFAULT.to_owned()]).unwrap().versions
}

#[test]
fn reports_nothing_before_first_list() {
    let proxies = ProxyWatcher::default();
    assert!(!proxies.publish_report(Instant::now(), &Metrics::new()));
    assert_eq!(proxies.reported("mesh", &[DEFAULT.to_owned()]), None);
}

#[test]
fn reports_changes_once_per_minute() {
    let proxies = listed(&[("a", "1.31.2")]);
    let (start, metrics) = (Instant::now(), Metrics::new());
    let after = |seconds| start + Duration::from_secs(seconds);
    assert!(proxies.publish_report(start, &metrics));
    assert_eq!(versions(&proxies), ["1.31.2"]);
    let mut list = ProxyIndex::default();
    proxies.handle(watcher::Event::Apply(pod("b", "1.32.0")), &mut list);
    proxies.set_message("mesh", Some("waits".into()));
    assert!(!proxies.publish_report(after(59), &metrics));
    assert_eq!(versions(&proxies), ["1.31.2"]);
    assert!(proxies.publish_report(after(60), &metrics));
    assert_eq!(versions(&proxies), ["1.31.2", "1.32.0"]);
    assert_eq!(proxies.reported("mesh", &[DEFAULT.to_owned()]).unwrap().message.as_deref(), Some("waits"));
    assert!(!proxies.publish_report(after(200), &metrics), "nothing has changed");
    assert_eq!(proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap().outdated, 1, "the summary is current");
}

#[test]
fn reports_when_old_pod_becomes_ready() {
    let proxies = listed(&[("a", "1.31.2")]);
    let (start, all) = (Instant::now(), [DEFAULT.to_owned()]);
    let serving = || proxies.reported("mesh", &all).unwrap().serving;
    assert!(proxies.publish_report(start, &Metrics::new()));
    assert_eq!(serving(), Vec::<String>::new());
    let ready = json!({
        "metadata": {"namespace": "shop", "name": "a", "uid": "a", "annotations": {"sidecar.istio.io/status": "{}"}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "istio/proxyv2:1.31.2"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let mut list = ProxyIndex::default();
    proxies.handle(watcher::Event::Apply(serde_json::from_value(ready).unwrap()), &mut list);
    assert_eq!(proxies.serving(&all).unwrap().len(), 1);
    assert!(proxies.publish_report(start + REPORT_INTERVAL, &Metrics::new()));
    assert_eq!(serving(), ["1.31.2"]);
}

#[test]
fn reports_versions_with_stale_configuration() {
    let annotated = |uid: &str, version: &str, hash: &str| {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": uid, "uid": uid,
                "annotations": {"meshwright.dev/injected-configuration": hash}},
            "spec": {"containers": [{"name": "istio-proxy", "image": format!("istio/proxyv2:{version}")}]},
        });
        serde_json::from_value::<ProxyPod>(pod).unwrap()
    };
    let proxies = listed(&[("unknown", "1.30.0")]);
    let mut list = ProxyIndex::default();
    for pod in [annotated("a", "1.31.2", "old"), annotated("b", "1.32.0", "old"), annotated("c", "1.33.0", "new")] {
        proxies.handle(watcher::Event::Apply(pod), &mut list);
    }
    assert!(proxies.publish_report(Instant::now(), &Metrics::new()));
    let stale = || proxies.reported("mesh", &[DEFAULT.to_owned()]).unwrap().stale;
    assert_eq!(stale(), None, "the current configuration is unknown");
    proxies.set_configuration("mesh", DEFAULT, Some("new".into()));
    assert_eq!(stale(), Some(["1.31.2".to_owned(), "1.32.0".to_owned()].into()));
    proxies.set_configuration("mesh", "canary", Some("new".into()));
    assert_eq!(stale(), Some(BTreeSet::new()), "pods of another control plane");
    proxies.set_configuration("mesh", DEFAULT, None);
    assert_eq!(stale(), Some(BTreeSet::new()), "pods don't show the configuration");
}

#[test]
fn ignores_short_lived_pods() {
    let proxies = listed(&[("a", "1.31.2")]);
    let (start, metrics) = (Instant::now(), Metrics::new());
    assert!(proxies.publish_report(start, &metrics));
    let mut list = ProxyIndex::default();
    for n in 0..500 {
        proxies.handle(watcher::Event::Apply(pod(&format!("p{n}"), "1.31.2")), &mut list);
        proxies.handle(watcher::Event::Delete(pod(&format!("p{n}"), "1.31.2")), &mut list);
        assert!(!proxies.publish_report(start + Duration::from_secs(61 + n), &metrics));
    }
}

#[test]
fn new_list_replaces_index() {
    let proxies = listed(&[("a", "1.31.2"), ("b", "1.31.2")]);
    let mut list = ProxyIndex::default();
    proxies.handle(watcher::Event::Init, &mut list);
    proxies.handle(watcher::Event::InitApply(pod("b", "1.32.0")), &mut list);
    proxies.handle(watcher::Event::InitDone, &mut list);
    let summary = proxies.summary(&[DEFAULT.to_owned()], "1.32.0").unwrap();
    assert_eq!((summary.count, summary.outdated), (1, 0));
}
