#!/usr/bin/env bash
# Generates the committed files. A test fails if one of them is out of date.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/meshwright}
"$meshwright" crd >"$root/config/crd/meshinstallations.yaml"
"$meshwright" crd --document >"$root/docs/reference.md"
"$meshwright" rbac >"$root/config/rbac/rbac.yaml"
"$meshwright" rbac --document >"$root/config/rbac/README.md"
"$meshwright" rbac --cluster-scoped-resources external >"$root/config/overlays/namespaced-permissions/rbac.yaml"
# The types of istiod's configuration, from Istio's own modules.
"$("$root/e2e/lab/build.sh" --print)/export-schema" >"$root/bundled-manifests/schemas/istiod.json"
# Writes an alert group of the add-on as a PrometheusRule: FILE NAME NAMESPACE GROUP.
rule() {
	local alerts=bundled-manifests/addons/prometheus/files/alerts.yml
	{
		cat <<-END
		# Generated from $alerts; don't edit. To update: make generate
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
