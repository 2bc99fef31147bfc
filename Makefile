# The few commands a person needs. `make help` lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE   ?= $(or $(MESHWRIGHT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meshwright)
VERSION := 1.32.0-alpha.eed52ebb66ad
CATALOG := $(CACHE)/catalog
# The lab makes network namespaces: that takes root, or a user namespace of one's own.
INSIDE  := $(if $(filter 0,$(shell id -u)),,unshare -r)
export MESHWRIGHT_CATALOG ?= $(CATALOG)
# The operator's own version.
RELEASE := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

.PHONY: prerequisites
prerequisites: # What a machine needs, each named with the command that installs it
	@e2e/lab/prerequisites.sh

.PHONY: lab
lab: prerequisites ## Build the lab's programs: Kubernetes, istiod, kwok, helm, a registry (once; about 15 minutes on two cores)
	@e2e/lab/build.sh >/dev/null

.PHONY: build
build: prerequisites ## Build the operator, with debug checks
	@cargo build --quiet --locked --package meshwright

.PHONY: release
release: prerequisites ## Build the operator for use
	@cargo build --locked --release --package meshwright

# The image that dist/install.yaml names: make dist IMAGE=registry.example.com/platform/meshwright:0.1.0
IMAGE ?=
# What the operator's rights are for, beside CATALOG: a namespace of the mesh, and a file of values.
NAMESPACE :=
VALUES :=
THEIRS := $(if $(filter $(CACHE)/catalog,$(CATALOG)),,--catalog "$(CATALOG)") $(if $(VALUES),--values "$(VALUES)")

.PHONY: dist
dist: build ## Write dist/install.yaml and the Helm chart dist/chart, which install the operator (IMAGE=: its image, as your clusters pull it; CATALOG=, NAMESPACE=, VALUES=: whose rights, docs/install.md)
	@mkdir -p dist
	@meshwright="$${CARGO_TARGET_DIR:-target}/debug/meshwright"; rm -rf dist/chart dist/chart.partial; cp -RL config/chart dist/chart.partial; \
	"$$meshwright" install $(if $(IMAGE),--image "$(IMAGE)") $(THEIRS) $(if $(NAMESPACE),--namespace "$(NAMESPACE)") >dist/install.yaml.partial; \
	$(if $(strip $(THEIRS)),"$$meshwright" rbac $(THEIRS) >dist/chart.partial/files/rbac.yaml;) \
	mv dist/chart.partial dist/chart; mv dist/install.yaml.partial dist/install.yaml
	@echo dist/install.yaml dist/chart

.PHONY: catalog
catalog: lab build ## Import Istio's charts from its Go module into the catalog, and make the lab's own releases of them
	@e2e/lab/catalog.sh "$(VERSION)" "$(CATALOG)"
	@e2e/lab/releases.sh

.PHONY: demo
demo: lab release catalog ## Show the whole main job on real components (DEMO_EXIT=1: end by itself)
	@cargo build --quiet --locked --package meshwright-e2e --bins
	@MESHWRIGHT_BIN="$${CARGO_TARGET_DIR:-target}/release/meshwright" $(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-demo"

.PHONY: test
test: lint catalog ## Everything: format, lints, unit, differential and lab tests
	@go -C image test ./...
	@cargo test --locked --workspace --exclude meshwright-e2e
	@cargo test --locked --package meshwright-e2e --no-run
	@last=$$(e2e/lab/last-dist.sh) || [ $$? = 3 ]; export MESHWRIGHT_LAST_BIN=$$last; \
	$(INSIDE) cargo test --locked --package meshwright-e2e -- --test-threads=$${LAB_THREADS:-2} $${last:+--include-ignored}

.PHONY: last-dist
last-dist: prerequisites ## Build the operator of the last dist from the repository's history, once, and print where it is
	@e2e/lab/last-dist.sh

.PHONY: unit
unit: prerequisites ## Only the tests that need no lab
	@cargo test --locked --workspace --exclude meshwright-e2e --lib

.PHONY: lint
lint: prerequisites ## Format and lints
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --workspace --all-targets -- --deny warnings

# What `make deny` looks at. Without access to the database of advisories: make deny CHECKS="bans licenses sources"
CHECKS ?= advisories bans licenses sources

.PHONY: deny
deny: ## Check licences, sources and known flaws of dependencies (cargo-deny; not part of `make test`)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing; install it with: cargo install --locked cargo-deny" >&2; exit 1; }
	@cargo deny check --hide-inclusion-graph $(CHECKS)

.PHONY: generate
generate: catalog ## Make the committed files that are generated: CRD and its reference, RBAC and its document, OperatorHub bundle
	@e2e/lab/generate.sh
	@cargo run --quiet --locked --package meshwright-ship -- bundle

.PHONY: bundle
bundle: prerequisites ## Make the OperatorHub bundle from config/ and judge it (IMAGE=, REPOSITORY=, MAINTAINER=, OUT=: docs/olm.md)
	@cargo run --quiet --locked --package meshwright-ship -- bundle $(if $(OUT),--out "$(OUT)") \
		$(if $(IMAGE),--image "$(IMAGE)") $(if $(REPOSITORY),--repository "$(REPOSITORY)") $(if $(MAINTAINER),--maintainer "$(MAINTAINER)")

.PHONY: sbom
sbom: prerequisites ## Write the operator's software bill of materials to dist/meshwright.cdx.json (CycloneDX; TARGET=)
	@mkdir -p dist && ship/sbom.sh $(TARGET) >dist/meshwright.cdx.json

.PHONY: image-root
image-root: $(if $(filter $(CACHE)/catalog,$(CATALOG)),catalog,prerequisites) # What the image holds, below dist/root: the static program (TARGET=), CATALOG, CERTIFICATES, and the SBOM
	@CATALOG="$(CATALOG)" CERTIFICATES="$(CERTIFICATES)" TARGET="$(TARGET)" image/root.sh

.PHONY: image
image: image-root ## Make the operator's image without a container engine: dist/image and dist/image.tar (TAG=: docs/image.md)
	@go -C image run . -context "$(CURDIR)" -out "$(CURDIR)/dist" -arch "$(if $(filter aarch64-%,$(TARGET)),arm64,amd64)" \
		-tag "$(or $(TAG),meshwright:$(RELEASE))" -label "org.opencontainers.image.version=$(RELEASE)" \
		-label "org.opencontainers.image.revision=$$(git describe --always --abbrev=40 --exclude '*' --dirty)"

.PHONY: bench
bench: lab release catalog ## Measure rendering and the choice of node ports (criterion, beside `helm template`) and the whole operator on the lab (BENCH_*: e2e/README.md)
	@cargo bench --locked --package meshwright-chart
	@cargo bench --locked --package meshwright --bench node_ports
	@cargo build --quiet --locked --package meshwright-e2e --bin meshwright-bench
	@MESHWRIGHT_BIN="$${CARGO_TARGET_DIR:-target}/release/meshwright" $(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-bench"

.PHONY: crash-matrix
crash-matrix: catalog ## Kill the operator after every number of writes of an install, upgrade, rollback and uninstall, and compare (CRASH_*: e2e/README.md)
	@cargo build --quiet --locked --package meshwright-e2e --bin meshwright-crash-matrix
	@$(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-crash-matrix"
