# Commands for users and developers. `make help` lists them.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE   ?= $(or $(MESHWRIGHT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/meshwright)
VERSION := 1.32.0-alpha.eed52ebb66ad
CATALOG := $(CACHE)/catalog
# The lab creates network namespaces, which requires root or a user namespace.
INSIDE  := $(if $(filter 0,$(shell id -u)),,unshare -r)
export MESHWRIGHT_CATALOG ?= $(CATALOG)
# Property tests are reproducible by default; other seeds: make test PROPTEST_RNG_SEED=2
export PROPTEST_RNG_SEED ?= 1
# Version of the operator.
RELEASE := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

.PHONY: prerequisites
prerequisites: # Check the requirements; missing ones are printed with the command that installs them
	@e2e/lab/prerequisites.sh

.PHONY: lab
lab: prerequisites ## Build the lab's programs: Kubernetes, istiod, kwok, helm, registry (once; about 15 minutes on two cores)
	@e2e/lab/build.sh >/dev/null

.PHONY: build
build: prerequisites ## Build the operator (debug)
	@cargo build --quiet --locked --package meshwright

.PHONY: release
release: prerequisites ## Build the operator (release)
	@cargo build --locked --release --package meshwright

# Image in dist/install.yaml: make dist IMAGE=registry.example.com/platform/meshwright:0.1.0
IMAGE ?=
# Scope of the operator's permissions, in addition to CATALOG: namespace of the mesh, and a values file.
MESH_NAMESPACE :=
VALUES :=
RBAC_FLAGS := $(if $(filter $(CACHE)/catalog,$(CATALOG)),,--catalog "$(CATALOG)") $(if $(VALUES),--values "$(VALUES)")

.PHONY: dist
dist: build ## Write the operator's manifest dist/install.yaml and Helm chart dist/chart (IMAGE=: its image; CATALOG=, MESH_NAMESPACE=, VALUES=: scope of its permissions, see docs/install.md)
	@mkdir -p dist
	@meshwright="$${CARGO_TARGET_DIR:-target}/debug/meshwright"; rm -rf dist/chart dist/chart.partial; cp -RL config/chart dist/chart.partial; \
	"$$meshwright" install $(if $(IMAGE),--image "$(IMAGE)") $(RBAC_FLAGS) $(if $(MESH_NAMESPACE),--mesh-namespace "$(MESH_NAMESPACE)") >dist/install.yaml.partial; \
	$(if $(strip $(RBAC_FLAGS)),"$$meshwright" rbac $(RBAC_FLAGS) >dist/chart.partial/files/rbac.yaml;) \
	mv dist/chart.partial dist/chart; mv dist/install.yaml.partial dist/install.yaml
	@echo dist/install.yaml dist/chart

.PHONY: catalog
catalog: lab build ## Import Istio's charts from its Go module into the catalog, and create the lab's releases from them
	@e2e/lab/catalog.sh "$(VERSION)" "$(CATALOG)"
	@e2e/lab/releases.sh

.PHONY: demo
demo: lab release catalog ## Install a mesh in a local lab cluster and show how the operator reverts drift (DEMO_EXIT=1: exit at the end)
	@cargo build --quiet --locked --package meshwright-e2e --bins
	@MESHWRIGHT_BIN="$${CARGO_TARGET_DIR:-target}/release/meshwright" $(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-demo"

.PHONY: test
test: lint catalog ## Run all checks: format, lints, unit, differential and lab tests
	@go -C image test ./...
	@cargo test --locked --workspace --exclude meshwright-e2e
	@cargo test --locked --package meshwright-e2e --no-run
	@last=$$(e2e/lab/last-dist.sh) || [ $$? = 3 ]; export MESHWRIGHT_LAST_BIN=$$last; \
	$(INSIDE) cargo test --locked --package meshwright-e2e -- --test-threads=$${LAB_THREADS:-2} $${last:+--include-ignored}

.PHONY: last-dist
last-dist: prerequisites ## Build the operator of the last dist from the repository's history (once) and print its path
	@e2e/lab/last-dist.sh

.PHONY: unit
unit: prerequisites ## Run only the unit tests, which need no lab
	@cargo test --locked --workspace --exclude meshwright-e2e --lib

.PHONY: lint
lint: prerequisites ## Check format and lints
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --workspace --all-targets -- --deny warnings

# Checks of `make deny`. Without access to the advisory database: make deny CHECKS="bans licenses sources"
CHECKS ?= advisories bans licenses sources

.PHONY: deny
deny: ## Check dependencies for licences, sources and advisories (cargo-deny; not part of `make test`)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing; install it with: cargo install --locked cargo-deny" >&2; exit 1; }
	@cargo deny check --hide-inclusion-graph $(CHECKS)

.PHONY: generate
generate: catalog ## Update the generated files: CRD and reference, RBAC and its documentation, alerts, OperatorHub bundle
	@e2e/lab/generate.sh
	@cargo run --quiet --locked --package meshwright-ship -- bundle

.PHONY: bundle
bundle: prerequisites ## Create and validate the OperatorHub bundle from config/ (IMAGE=, REPOSITORY=, MAINTAINER=, OUT=: see docs/olm.md)
	@cargo run --quiet --locked --package meshwright-ship -- bundle $(if $(OUT),--out "$(OUT)") \
		$(if $(IMAGE),--image "$(IMAGE)") $(if $(REPOSITORY),--repository "$(REPOSITORY)") $(if $(MAINTAINER),--maintainer "$(MAINTAINER)")

.PHONY: sbom
sbom: prerequisites ## Write the operator's software bill of materials to dist/meshwright.cdx.json (CycloneDX; TARGET=)
	@mkdir -p dist && ship/sbom.sh $(TARGET) >dist/meshwright.cdx.json

.PHONY: image-root
image-root: $(if $(filter $(CACHE)/catalog,$(CATALOG)),catalog,prerequisites) # Create the image's content in dist/root: the static binary (TARGET=), CATALOG, CERTIFICATES, and the SBOM
	@CATALOG="$(CATALOG)" CERTIFICATES="$(CERTIFICATES)" TARGET="$(TARGET)" image/root.sh

.PHONY: image
image: image-root ## Build the operator's image without a container engine: dist/image and dist/image.tar (TAG=: see docs/image.md)
	@go -C image run . -context "$(CURDIR)" -out "$(CURDIR)/dist" -arch "$(if $(filter aarch64-%,$(TARGET)),arm64,amd64)" \
		-tag "$(or $(TAG),meshwright:$(RELEASE))" -label "org.opencontainers.image.version=$(RELEASE)" \
		-label "org.opencontainers.image.revision=$$(git describe --always --abbrev=40 --exclude '*' --dirty)"

.PHONY: bench
bench: lab release catalog ## Benchmark rendering (compared with `helm template`), node port assignment, and the operator on the lab (BENCH_*: see e2e/README.md)
	@cargo bench --locked --package meshwright-chart
	@cargo bench --locked --package meshwright --bench node_ports
	@cargo build --quiet --locked --package meshwright-e2e --bin meshwright-bench
	@MESHWRIGHT_BIN="$${CARGO_TARGET_DIR:-target}/release/meshwright" $(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-bench"

.PHONY: crash-matrix
crash-matrix: catalog ## Interrupt the operator after every number of writes and compare with an uninterrupted run (CRASH_*: see e2e/README.md)
	@cargo build --quiet --locked --package meshwright-e2e --bin meshwright-crash-matrix
	@$(INSIDE) "$${CARGO_TARGET_DIR:-target}/debug/meshwright-crash-matrix"
