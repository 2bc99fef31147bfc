#!/usr/bin/env bash
# Imports Istio's charts, as its Go module embeds them, into a catalog. Does nothing when the release is there, unless
# its digests no longer fit or this operator reads another layout.
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
