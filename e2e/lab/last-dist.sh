#!/usr/bin/env bash
# Prints the operator of the last dist: the program that the tests of an upgrade of the operator begin with. Built once from
# the repository's own history, at the commit that e2e/last-dist names, and kept in the cache.
# Exit status 3: this copy of the repository doesn't have that commit. No commit is fetched; cargo may fetch crates.
#   MESHWRIGHT_LAST_BIN=...  another older operator
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -n "${MESHWRIGHT_LAST_BIN-}" ]; then
	realpath -e "$MESHWRIGHT_LAST_BIN"
	exit
fi
commit=$(<"$root/e2e/last-dist")
kept=${MESHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshwright}/dists/$commit
if [ -x "$kept/meshwright" ]; then
	echo "$kept/meshwright"
	exit
fi

built=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$built" "$kept"
# What a run that was killed has left behind.
find "$built" -maxdepth 1 -name 'last-dist.??????' -mmin +60 -exec rm -rf {} +
work=$(mktemp -d "$built/last-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! GIT_NO_LAZY_FETCH=1 git -c safe.directory="$root" -C "$root" archive --output "$work/source.tar" "$commit" 2>"$work/said"; then
	rule=$(printf '=%.0s' {1..100})
	printf '%s\n' "$rule" 'LEFT OUT: the upgrade of the operator from the last dist is NOT tested.' \
		"It takes commit $commit of this repository; git: $(<"$work/said")" \
		'Get the whole history (git fetch --unshallow), or name an older operator: MESHWRIGHT_LAST_BIN=/path/to/meshwright' \
		"$rule" >&2
	exit 3
fi
echo "last dist: building the operator of $commit (once)" >&2
mkdir "$work/source"
tar -xf "$work/source.tar" -C "$work/source"

# What was compiled of other people's crates serves here too; the crates of this repository have the same names at both
# commits, and cargo tells them apart by the times of files alone.
profile=$work/target/debug
mkdir -p "$profile"
for part in deps build .fingerprint; do
	[ -d "$built/debug/$part" ] || continue
	cp -al "$built/debug/$part" "$profile/"
	find "$profile/$part" -mindepth 1 -maxdepth 1 \( -name 'meshwright*' -o -name 'libmeshwright*' \) -exec rm -r {} +
done
env -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$work/target" cargo build --quiet --locked --package meshwright --manifest-path "$work/source/Cargo.toml"
# Moved when it is whole, so that an interrupted build leaves nothing that looks finished.
mv "$profile/meshwright" "$kept/.meshwright.partial"
mv "$kept/.meshwright.partial" "$kept/meshwright"
echo "$kept/meshwright"
