#!/usr/bin/env bash
# Makes every committed file that is generated. A test fails when one of them differs from what this makes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/meshwright}
"$meshwright" crd >"$root/config/crd/meshinstallations.yaml"
"$meshwright" crd --document >"$root/docs/reference.md"
"$meshwright" rbac >"$root/config/rbac/rbac.yaml"
"$meshwright" rbac --document >"$root/config/rbac/README.md"
"$meshwright" rbac --cluster-objects preinstalled >"$root/config/overlays/namespaced-rights/rbac.yaml"
# The add-on's alerts, by groups, for those who have the Prometheus Operator: FILE NAME NAMESPACE GROUP.
rule() {
	local alerts=bundled-manifests/addons/prometheus/files/alerts.yml
	{
		cat <<-END
		# Generated from $alerts; don't edit. To renew: make generate
		apiVersion: monitoring.coreos.com/v1
		kind: PrometheusRule
		metadata:
		  name: $2
		  namespace: $3
		  labels:
		    app.kubernetes.io/name: meshwright
		spec:
		  groups:
		END
		awk -v group="$4" '/^  - name: / { wanted = $3 == group } wanted { print "  " $0 }' "$root/$alerts"
	} >"$root/config/overlays/$1/prometheus_rule.yaml"
}
rule service-monitor meshwright meshwright-system meshwright
rule mesh-monitor istio istio-system istio
