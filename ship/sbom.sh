#!/usr/bin/env bash
# Prints the software bill of materials (SBOM) of the operator's binary for a target, as CycloneDX. Compiles only
# meshwright-ship.
#   sbom.sh [TARGET]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-x86_64-unknown-linux-gnu}

# cargo's output about the binary's crates, the input of `meshwright-ship sbom`.
cargo_output=$(mktemp -d)
trap 'rm -rf "$cargo_output"' EXIT
tree() { cargo tree --locked --package meshwright --target "$target" --prefix none --format '{p}' --edges "$1"; }
cargo metadata --locked --format-version 1 --filter-platform "$target" >"$cargo_output/metadata"
tree normal,build >"$cargo_output/compiled"
tree normal,no-proc-macro >"$cargo_output/linked"
cargo run --quiet --locked --package meshwright-ship -- sbom \
	--metadata "$cargo_output/metadata" --compiled "$cargo_output/compiled" --linked "$cargo_output/linked"
