#!/usr/bin/env bash
# Prints bundled-manifests/schemas/minors.json: how the mesh configuration of each Istio minor differs from istiod.json. Run it
# after a change of istiod.json or of the versions below, which the module proxy has.
#   e2e/lab/schemas/differences.sh >bundled-manifests/schemas/minors.json
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exported=$here/../../../bundled-manifests/schemas/istiod.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/main.go" "$work"
separator='{'
for version in v1.28.0 v1.29.6 v1.30.8 v1.31.4 v1.32.0; do
	minor=${version#v}
	printf 'module differences\n\ngo 1.26.0\n\nrequire istio.io/api %s\n' "$version" >"$work/go.mod"
	printf '%s\n "%s": ' "$separator" "${minor%.*}"
	(cd "$work" && GOFLAGS=-mod=mod go run . "$exported")
	separator=,
done
printf '}\n'
