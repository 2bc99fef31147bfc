#!/usr/bin/env bash
# Makes every committed file that is generated. A test fails when one of them differs from what this makes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
meshwright=${MESHWRIGHT_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/meshwright}
"$meshwright" crd >"$root/config/crd/meshinstallations.yaml"
"$meshwright" rbac >"$root/config/rbac/rbac.yaml"
"$meshwright" rbac --document >"$root/config/rbac/README.md"
