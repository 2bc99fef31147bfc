#!/usr/bin/env bash
# Makes every committed file that is generated. A test fails when one of them differs from what this makes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/meshwright}
"$meshwright" crd >"$root/config/crd/meshinstallations.yaml"
"$meshwright" crd --document >"$root/docs/reference.md"
"$meshwright" rbac >"$root/config/rbac/rbac.yaml"
"$meshwright" rbac --document >"$root/config/rbac/README.md"
# The add-on's alerts about the operator, for those who have the Prometheus Operator: nothing of ours makes that look at istiod.
{
	cat <<-END
	# Generated from bundled-manifests/addons/prometheus/files/alerts.yml; don't edit. To renew: make generate
	apiVersion: monitoring.coreos.com/v1
	kind: PrometheusRule
	metadata:
	  name: meshwright
	  namespace: meshwright-system
	  labels:
	    app.kubernetes.io/name: meshwright
	spec:
	END
	sed -n '/^groups:/,$ { /^  - name: istio$/,$ d; s/^/  /p }' "$root/bundled-manifests/addons/prometheus/files/alerts.yml"
} >"$root/config/overlays/service-monitor/prometheus_rule.yaml"
