#!/usr/bin/env bash
# Builds the lab's programs from their Go modules into a cache outside the checkout, keyed by each module's go.mod and
# go.sum, and prints the directory that holds them all. Does nothing for a module whose programs are there already.
#   build.sh            build what is missing
#   build.sh --print    only print the directory (fails if something is missing)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MESHWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshwright}

# group:program:package, in the order in which they are built: what is needed first, first.
programs=(
	kubernetes:etcd:go.etcd.io/etcd/server/v3
	kubernetes:kube-apiserver:k8s.io/kubernetes/cmd/kube-apiserver
	kubernetes:kube-controller-manager:k8s.io/kubernetes/cmd/kube-controller-manager
	kubernetes:kube-scheduler:k8s.io/kubernetes/cmd/kube-scheduler
	istio:pilot-discovery:istio.io/istio/pilot/cmd/pilot-discovery
	istio:export-charts:./export-charts
	istioctl:istioctl:istio.io/istio/istioctl/cmd/istioctl
	kwok:kwok:sigs.k8s.io/kwok/cmd/kwok
	helm:helm:helm.sh/helm/v4/cmd/helm
	gitops:kustomize:sigs.k8s.io/kustomize/kustomize/v5
	gitops:gitops-judge:./judge
	registry:registry:.
	prometheus:promtool:github.com/prometheus/prometheus/cmd/promtool
	kubectl:kubectl:.
)
# Releases that tests upgrade between: the one istiod, linked again with another version in it.
while read -r release; do
	programs+=("istio:pilot-discovery-$release:istio.io/istio/pilot/cmd/pilot-discovery")
done <"$here/releases.txt"

say() { printf '%s\n' "$*" >&2; }

need() { # command, how to install it
	command -v "$1" >/dev/null 2>&1 || { say "lab: '$1' is missing; install it with: $2"; exit 1; }
}

# A module's key: its inputs, and what is stamped in at link time.
key() { { cat "$here/$1/go.mod" "$here/$1/go.sum"; find "$here/$1" -name '*.go' | sort | xargs -r cat; ldflags "$1"; } | sha256sum | cut -c1-16; }

# The key of the releases' charts: where they are from, and what is done to them.
releases_key() { { key istio; cat "$here/releases.txt" "$here/releases.sh"; } | sha256sum | cut -c1-16; }

version_of() { awk -v m="$2" '$1 == m && $2 ~ /^v/ {print $2; exit} $1 == "require" && $2 == m {print $3; exit}' "$here/$1/go.mod"; }

# istiod's version: the module's, or that of the release for which it is linked.
istio_version() {
	case $1 in
	pilot-discovery-*) printf '%s' "${1#pilot-discovery-}" ;;
	*) printf '1.32.0-alpha.%s' "$(version_of istio istio.io/istio | sed 's/.*-//')" ;;
	esac
}

# Of a group, and of a program in it that has a version of its own.
ldflags() {
	case $1 in
	kubernetes) # Without a version that clients can parse, discovery of features by version fails.
		local v; v=$(version_of kubernetes k8s.io/kubernetes)
		local minor=${v#v*.}; minor=${minor%%.*}
		printf -- '-s -w -X k8s.io/component-base/version.gitVersion=%s -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=%s' "$v" "$minor" ;;
	istio) printf -- '-s -w -X istio.io/istio/pkg/version.buildVersion=%s' "$(istio_version "${2-}")" ;;
	istioctl) # The release that is in the lab's catalog.
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
		# Built beside its final name and moved, so that an interrupted build leaves nothing that looks finished.
		(cd "$here/$group" && CGO_ENABLED=0 go build -trimpath -ldflags "$(ldflags "$group" "$program")" -o "$dir/.$program.partial" "$package")
		mv "$dir/.$program.partial" "$dir/$program"
		say "lab: [$n/$count] $program done in $((SECONDS - started)) s"
	done
}

# One directory with a link to each program, named by all keys, so that a caller needs a single path.
link_all() {
	local keys; keys=$({ for g in kubernetes istio istioctl kwok helm gitops registry prometheus kubectl; do key "$g"; done; releases_key; } | sha256sum | cut -c1-16)
	local out=$cache/lab/bin-$keys entry group program package
	mkdir -p "$out"
	for entry in "${programs[@]}"; do
		IFS=: read -r group program package <<<"$entry"
		[ -x "$(bin_dir "$group")/$program" ] || { say "lab: $program is not built; run: make lab"; exit 1; }
		ln -sfn "$(bin_dir "$group")/$program" "$out/$program"
	done
	# Filled by releases.sh, which needs the operator.
	ln -sfn "$cache/lab/releases-$(releases_key)" "$out/releases"
	printf '%s\n' "$out"
}

case ${1-} in
'') build_all ;;
--print) ;;
*) say "usage: build.sh [--print]"; exit 2 ;;
esac
link_all
