#!/usr/bin/env bash
# Prints the software bill of materials of the operator's program for a target, as CycloneDX. Compiles no more than its
# maker.
#   sbom.sh [TARGET]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-x86_64-unknown-linux-gnu}

# What cargo says of the program's crates, as the bill's maker wants to have it.
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
tree() { cargo tree --locked --package meshwright --target "$target" --prefix none --format '{p}' --edges "$1"; }
cargo metadata --locked --format-version 1 --filter-platform "$target" >"$said/metadata"
tree normal,build >"$said/compiled"
tree normal,no-proc-macro >"$said/linked"
cargo run --quiet --locked --package meshwright-ship -- sbom \
	--metadata "$said/metadata" --compiled "$said/compiled" --linked "$said/linked"
