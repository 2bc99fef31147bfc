#!/usr/bin/env bash
# Checks the requirements for building and running the lab, and prints how to install missing ones.
# On a CI runner (CI=true, as root) it installs missing Debian packages.
set -euo pipefail

# command:debian package
tools=(ip:iproute2 setpriv:util-linux unshare:util-linux nsenter:util-linux cc:gcc column:bsdextrautils)
packages=() missing=()
for entry in "${tools[@]}"; do
	IFS=: read -r tool package <<<"$entry"
	command -v "$tool" >/dev/null 2>&1 || { missing+=("$tool"); packages+=("$package"); }
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "${CI-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -qq && apt-get install -y -qq "${packages[@]}" >/dev/null
	else
		echo "missing: ${missing[*]}; install with: apt-get install ${packages[*]}" >&2
		exit 1
	fi
fi
# require_version TOOL VERSION MINIMUM REMEDY
require_version() {
	[ "$(printf '%s\n' "$3" "$2" | sort -V | head -n1)" = "$3" ] || { echo "$1 is version $2; version $3 or newer is required: $4" >&2; exit 1; }
}
command -v cargo >/dev/null 2>&1 || { echo "missing: cargo; install Rust 1.95 or newer with rustup" >&2; exit 1; }
require_version cargo "$(cargo --version | cut -d' ' -f2)" 1.95 "rustup update"
for part in fmt clippy; do
	cargo "$part" --version >/dev/null 2>&1 || { echo "missing: cargo $part; install with: rustup component add rustfmt clippy" >&2; exit 1; }
done
command -v go >/dev/null 2>&1 || { echo "missing: go; install Go 1.26 or newer" >&2; exit 1; }
require_version go "$(go env GOVERSION | sed 's/^go//')" 1.26 "install it, or let Go fetch it with: go env -w GOTOOLCHAIN=auto"
