#!/usr/bin/env bash
# Lays out below dist/root what the image holds: the program, linked statically, a catalog of Istio releases, and the
# software bill of materials. The same source, toolchain and catalog give the same bytes, wherever the checkout is.
#   TARGET=...   what the program is for; x86_64-unknown-linux-gnu needs nothing but rustc and cc
#   CATALOG=...  the catalog, as `meshwright catalog` makes it
#   CERTIFICATES=...  certificates of authorities, for registries by TLS; a file in PEM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${TARGET:-x86_64-unknown-linux-gnu}
catalog=${CATALOG:?the catalog that goes into the image}
built=${CARGO_TARGET_DIR:-target}
out=dist/root

# Paths of this machine would make another program of the same source. Relocations are packed, since all of them are read
# at every start: unpacked they are 0.7 MB of the program and of its resident set.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$built"
maps=("$cargo_home=/cargo" "$(realpath "$built")=/target" "$PWD=/source")
RUSTFLAGS="-C target-feature=+crt-static ${maps[*]/#/--remap-path-prefix=}" CFLAGS="${maps[*]/#/-ffile-prefix-map=}" \
	cargo rustc --locked --release --package meshwright --bin meshwright --target "$target" -- \
	-C link-arg=-Wl,-z,pack-relative-relocs
program=$built/$target/release/meshwright
if readelf --program-headers "$program" | grep -q INTERP; then
	echo "image: $program asks for a dynamic linker; an image from scratch has none" >&2
	exit 1
fi

rm -rf "$out"
mkdir -p "$out/bin" "$out/catalog" "$out/certificates" "$out/sbom"
[ -z "${CERTIFICATES:-}" ] || cp "$CERTIFICATES" "$out/certificates/ca-certificates.crt"
cp "$program" "$out/bin/"
cp -R "$catalog/." "$out/catalog/"
cargo run --quiet --locked --package meshwright --bin meshwright -- catalog verify --catalog "$out/catalog"
ship/sbom.sh "$target" >"$out/sbom/meshwright.cdx.json"
