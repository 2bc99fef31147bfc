#!/usr/bin/env bash
# Creates the releases in releases.txt for upgrade tests from the charts of Istio's Go module. The charts are the same
# under other versions, except for the changes to istiod's chart below, which make the order of an upgrade observable.
# Skips existing releases if `catalog verify` succeeds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$here/../../target}/debug/meshwright}
programs=$("$here/build.sh" --print)
catalog=$(readlink -m "$programs/releases")

missing=
while read -r version; do
	[ -e "$catalog/$version/release.yaml" ] || missing=1
done <"$here/releases.txt"
if [ -z "$missing" ] && "$meshwright" catalog verify --catalog "$catalog" >/dev/null 2>&1; then
	exit 0
fi

# Inserts text before or after the first exact match of a line; fails if there is none.
insert() { # before|after, file, line, text
	awk -v where="$1" -v line="$3" -v text="$4" '
		$0 == line && !done { done = 1; if (where == "before") print text; print; if (where == "after") print text; next }
		{ print }
		END { exit !done }' "$2" >"$2.new" || { echo "releases.sh: $2 has no line: $3" >&2; exit 1; }
	mv "$2.new" "$2"
}

# 1.31 has a rule in istiod's ClusterRole and a ConfigMap that 1.32 lacks.
of_1_31() { # istiod's chart
	insert after "$1/templates/clusterrole.yaml" 'rules:' \
		'  - {apiGroups: ["apps"], resources: ["daemonsets"], verbs: ["get", "watch", "list"]}'
	cat >"$1/templates/configmap-lab.yaml" <<-'END'
		apiVersion: v1
		kind: ConfigMap
		metadata:
		  name: istio-lab-of-1.31
		  namespace: {{ .Release.Namespace | quote }}
		  labels:
		    {{- include "istio.labels" . | nindent 4 }}
		data:
		  note: "only 1.31 has this"
	END
}

# 1.32 has another rule, and an injection template with a field that only istiod 1.32 has, so that an older istiod
# rejects every pod. Likewise, istiod 1.30 rejects pods with the template of the real 1.31, which uses .ProxyInitImage.
of_1_32() { # istiod's chart
	insert after "$1/templates/clusterrole.yaml" 'rules:' \
		'  - {apiGroups: ["apps"], resources: ["deployments"], verbs: ["get", "watch", "list"]}'
	insert before "$1/templates/deployment.yaml" '          - name: REVISION' \
		$'          - name: LAB_MINOR\n            value: "1.32"'
	local template=$1/files/injection-template.yaml
	{ echo '{{- if ne (env "LAB_MINOR" "") "1.32" }}{{ .FieldOfIstiod132 }}{{ end }}'; cat "$template"; } >"$template.new"
	mv "$template.new" "$template"
}

source="lab: charts of the Go module istio.io/istio, $(awk '$1 == "istio.io/istio" {print $2; exit} $2 == "istio.io/istio" {print $3; exit}' "$here/istio/go.mod"), under another version"
mkdir -p "$catalog"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
while read -r version; do
	charts=$work/$version
	"$programs/export-charts" "$charts"
	case $version in
	1.31.*) of_1_31 "$charts/charts/istio-control/istio-discovery" ;;
	1.32.*) of_1_32 "$charts/charts/istio-control/istio-discovery" ;;
	esac
	"$meshwright" catalog add --from "$charts" --version "$version" --catalog "$catalog" --replace --source "$source"
done <"$here/releases.txt"
