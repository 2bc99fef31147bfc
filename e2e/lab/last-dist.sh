#!/usr/bin/env bash
# Prints the path of the last dist's operator, from which tests upgrade. Builds it once from the repository's history,
# at the commit in e2e/last-dist, and caches it.
# Exit status 3: the commit is not in this clone. The script fetches no commits; cargo may fetch crates.
#   MESHWRIGHT_LAST_BIN=...  use another older operator
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
# Deletes directories of interrupted runs.
find "$built" -maxdepth 1 -name 'last-dist.??????' -mmin +60 -exec rm -rf {} +
work=$(mktemp -d "$built/last-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! GIT_NO_LAZY_FETCH=1 git -c safe.directory="$root" -C "$root" archive --output "$work/source.tar" "$commit" 2>"$work/stderr"; then
	rule=$(printf '=%.0s' {1..100})
	printf '%s\n' "$rule" 'SKIPPED: the upgrade of the operator from the last dist is NOT tested.' \
		"Commit $commit is not in this clone; git: $(<"$work/stderr")" \
		'Fetch the whole history (git fetch --unshallow), or set MESHWRIGHT_LAST_BIN=/path/to/meshwright to an older operator.' \
		"$rule" >&2
	exit 3
fi
echo "last dist: building the operator of $commit (once)" >&2
mkdir "$work/source"
tar -xf "$work/source.tar" -C "$work/source"

# Reuses compiled dependencies, but not the crates of this repository: they have the same names at both commits, and
# cargo distinguishes them only by file times.
profile=$work/target/debug
mkdir -p "$profile"
for part in deps build .fingerprint; do
	[ -d "$built/debug/$part" ] || continue
	cp -al "$built/debug/$part" "$profile/"
	find "$profile/$part" -mindepth 1 -maxdepth 1 \( -name 'meshwright*' -o -name 'libmeshwright*' \) -exec rm -r {} +
done
env -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$work/target" cargo build --quiet --locked --package meshwright --manifest-path "$work/source/Cargo.toml"
# Renamed after the copy, so that an interruption leaves no incomplete program.
mv "$profile/meshwright" "$kept/.meshwright.partial"
mv "$kept/.meshwright.partial" "$kept/meshwright"
echo "$kept/meshwright"
