#!/usr/bin/env bash
# Imports the charts embedded in Istio's Go module into a catalog. Skips an existing release if `catalog verify`
# succeeds.
#   catalog.sh VERSION CATALOG
set -euo pipefail
version=$1 catalog=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/meshwright}

if [ -e "$catalog/$version" ] && "$meshwright" catalog verify --catalog "$catalog" >/dev/null 2>&1; then
	exit 0
fi
charts=$(mktemp -d)
trap 'rm -rf "$charts"' EXIT
"$("$here/build.sh" --print)/export-charts" "$charts"
mkdir -p "$catalog"
"$meshwright" catalog add --from "$charts" --version "$version" --catalog "$catalog" --replace \
	--source "Go module istio.io/istio, $(awk '$1 == "istio.io/istio" {print $2; exit} $2 == "istio.io/istio" {print $3; exit}' "$here/istio/go.mod")"
