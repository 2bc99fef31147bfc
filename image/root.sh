#!/usr/bin/env bash
# Creates the image's files in dist/root: the statically linked binary, a catalog of Istio releases, and the software bill
# of materials. The result is reproducible, independent of the checkout's path.
#   TARGET=...        rustc target; x86_64-unknown-linux-gnu needs only rustc and cc
#   CATALOG=...       catalog created with `meshwright catalog`
#   CERTIFICATES=...  PEM file with root certificates for registries
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${TARGET:-x86_64-unknown-linux-gnu}
catalog=${CATALOG:?must be set to the catalog for the image}
built=${CARGO_TARGET_DIR:-target}
out=dist/root

# Remaps local paths, for reproducible builds. Packs relocations, which are all read at every start: unpacked, they add
# 0.7 MB to the binary and to its resident set.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$built"
maps=("$cargo_home=/cargo" "$(realpath "$built")=/target" "$PWD=/source")
RUSTFLAGS="-C target-feature=+crt-static ${maps[*]/#/--remap-path-prefix=}" CFLAGS="${maps[*]/#/-ffile-prefix-map=}" \
	cargo rustc --locked --release --package meshwright --bin meshwright --target "$target" -- \
	-C link-arg=-Wl,-z,pack-relative-relocs
binary=$built/$target/release/meshwright
if readelf --program-headers "$binary" | grep -q INTERP; then
	echo "image: $binary needs a dynamic linker, which an image from scratch doesn't have" >&2
	exit 1
fi

rm -rf "$out"
mkdir -p "$out/bin" "$out/catalog" "$out/certificates" "$out/sbom"
[ -z "${CERTIFICATES:-}" ] || cp "$CERTIFICATES" "$out/certificates/ca-certificates.crt"
cp "$binary" "$out/bin/"
cp -R "$catalog/." "$out/catalog/"
cargo run --quiet --locked --package meshwright --bin meshwright -- catalog verify --catalog "$out/catalog"
ship/sbom.sh "$target" >"$out/sbom/meshwright.cdx.json"
