#!/usr/bin/env bash
# Builds the lab's programs from their Go modules into a cache outside the checkout, keyed by each module's go.mod,
# go.sum and sources, and prints the directory with all programs. Skips programs that are already built.
#   build.sh            build missing programs
#   build.sh --print    only print the directory (fails if a program is missing)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MESHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshwright}

# group:program:package, in build order.
programs=(
	kubernetes:etcd:go.etcd.io/etcd/server/v3
	kubernetes:kube-apiserver:k8s.io/kubernetes/cmd/kube-apiserver
	kubernetes:kube-controller-manager:k8s.io/kubernetes/cmd/kube-controller-manager
	kubernetes:kube-scheduler:k8s.io/kubernetes/cmd/kube-scheduler
	istio:pilot-discovery:istio.io/istio/pilot/cmd/pilot-discovery
	istio:export-charts:./export-charts
	istio:export-schema:./export-schema
	istio:decode:./decode
	istioctl:istioctl:istio.io/istio/istioctl/cmd/istioctl
	kwok:kwok:sigs.k8s.io/kwok/cmd/kwok
	helm:helm:helm.sh/helm/v4/cmd/helm
	gitops:kustomize:sigs.k8s.io/kustomize/kustomize/v5
	gitops:gitops-health:./health
	registry:registry:.
	prometheus:promtool:github.com/prometheus/prometheus/cmd/promtool
	kubectl:kubectl:.
)
# Releases for upgrade tests: the same istiod linked with other versions.
while read -r release; do
	programs+=("istio:pilot-discovery-$release:istio.io/istio/pilot/cmd/pilot-discovery")
done <"$here/releases.txt"

say() { printf '%s\n' "$*" >&2; }

need() { # command, how to install it
	command -v "$1" >/dev/null 2>&1 || { say "lab: '$1' is missing; install it with: $2"; exit 1; }
}

# Cache key of a module: its files and linker flags.
key() { { cat "$here/$1/go.mod" "$here/$1/go.sum"; find "$here/$1" -name '*.go' | sort | xargs -r cat; ldflags "$1"; } | sha256sum | cut -c1-16; }

# Cache key of the releases' charts: their module and the script that changes them.
releases_key() { { key istio; cat "$here/releases.txt" "$here/releases.sh"; } | sha256sum | cut -c1-16; }

version_of() { awk -v m="$2" '$1 == m && $2 ~ /^v/ {print $2; exit} $1 == "require" && $2 == m {print $3; exit}' "$here/$1/go.mod"; }

# istiod's version: the module's, or that of a release.
istio_version() {
	case $1 in
	pilot-discovery-*) printf '%s' "${1#pilot-discovery-}" ;;
	*) printf '1.32.0-alpha.%s' "$(version_of istio istio.io/istio | sed 's/.*-//')" ;;
	esac
}

# Linker flags of a group, or of a program with its own version.
ldflags() {
	case $1 in
	kubernetes) # Clients need a version that they can parse.
		local v; v=$(version_of kubernetes k8s.io/kubernetes)
		local minor=${v#v*.}; minor=${minor%%.*}
		printf -- '-s -w -X k8s.io/component-base/version.gitVersion=%s -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=%s' "$v" "$minor" ;;
	istio) printf -- '-s -w -X istio.io/istio/pkg/version.buildVersion=%s' "$(istio_version "${2-}")" ;;
	istioctl) # The release in the lab's catalog.
		printf -- '-s -w -X istio.io/istio/pkg/version.buildVersion=%s -X istio.io/istio/pkg/version.buildHub=registry.istio.io/testing' "$(istio_version istioctl)" ;;
	*) printf -- '-s -w' ;;
	esac
}

bin_dir() { printf '%s/lab/%s-%s' "$cache" "$1" "$(key "$1")"; }

build_all() {
	local count=${#programs[@]} n=0 missing=0 entry group program package dir
	for entry in "${programs[@]}"; do
		IFS=: read -r group program package <<<"$entry"
		n=$((n + 1)); dir=$(bin_dir "$group")
		[ -x "$dir/$program" ] && continue
		if [ $missing = 0 ]; then
			need go 'apt-get install golang-go (1.26 or newer; or unpack a release from go.dev)'
			say "lab: building into $cache/lab (once; about 15 minutes on two cores)"
			missing=1
		fi
		mkdir -p "$dir"
		say "lab: [$n/$count] $program ($package)"
		local started=$SECONDS
		# Renamed after the build, so that an interrupted build leaves no incomplete program.
		(cd "$here/$group" && CGO_ENABLED=0 go build -trimpath -ldflags "$(ldflags "$group" "$program")" -o "$dir/.$program.partial" "$package")
		mv "$dir/.$program.partial" "$dir/$program"
		say "lab: [$n/$count] $program done in $((SECONDS - started)) s"
	done
}

# Creates one directory with links to all programs, named after all keys.
link_all() {
	local keys; keys=$({ for g in kubernetes istio istioctl kwok helm gitops registry prometheus kubectl; do key "$g"; done; releases_key; } | sha256sum | cut -c1-16)
	local out=$cache/lab/bin-$keys entry group program package
	mkdir -p "$out"
	for entry in "${programs[@]}"; do
		IFS=: read -r group program package <<<"$entry"
		[ -x "$(bin_dir "$group")/$program" ] || { say "lab: $program is not built; run: make lab"; exit 1; }
		ln -sfn "$(bin_dir "$group")/$program" "$out/$program"
	done
	# releases.sh fills this directory; it needs the operator.
	ln -sfn "$cache/lab/releases-$(releases_key)" "$out/releases"
	printf '%s\n' "$out"
}

case ${1-} in
'') build_all ;;
--print) ;;
*) say "usage: build.sh [--print]"; exit 2 ;;
esac
link_all
