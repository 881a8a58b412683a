# Every chore of the project, each a line that can be run by hand. `make` alone lists them.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)

# Where tests/cluster/build keeps what it compiled.
PROGRAMS = $(or $(BERTH_CLUSTER),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/berth-cluster)

.DEFAULT_GOAL := help
.PHONY: help build image demo test lint unit sanity fuzz machine soak manifests cluster test-image cluster-test e2e conformance prove bench docs

help: ## List the chores
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

build: ## Build the binary, optimised: target/release/berth
	@tools/need cargo cc
	$(CARGO) build --release --locked

# Paths of this machine stay out of the binary, so that the image is the same wherever it is built.
image: ## Build the container image: target/image/berth.tar, berth.dev/berth:dev
	@tools/need cargo cc mkfs.ext4 mkfs.xfs
	RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=/berth --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" \
		$(CARGO) build --release --locked --target x86_64-unknown-linux-gnu
	tools/berth-image $(TARGET)/x86_64-unknown-linux-gnu/release/berth target/image/berth.tar

demo: ## Show a volume's whole life on this machine, step by step; changes nothing outside a mount namespace of its own
	@tools/need cargo cc linux
	@echo "Building (the first time takes a minute or two) ..."
	@$(CARGO) build --quiet --locked --bin berth --example demo
	@target/debug/examples/demo

test: ## Run every test, on a real Kubernetes too (the first time compiles that: half an hour on two cores)
	@tools/need cargo cc c++ go linux root mkfs.ext4 mkfs.xfs mkswap sfdisk pkg-config libseccomp busybox ip nft conntrack openssl qemu dmsetup cargo-deny
	@$(MAKE) --no-print-directory lint
	tests/cluster/build all
	@BERTH_CLUSTER_BIN=$(PROGRAMS)/bin $(MAKE) --no-print-directory unit sanity fuzz soak
	@$(MAKE) --no-print-directory machine cluster-test e2e

lint: ## Formatting, clippy and rustdoc, with warnings as errors
	@tools/need cargo cc pkg-config libseccomp
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	$(CARGO) clippy --quiet --locked --test cluster --test machine --test soak -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --quiet --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline --log-level error check bans licenses sources; fi

unit: ## Unit and integration tests, with real mounts in private namespaces
	@tools/need cargo cc go linux root mkfs.ext4 mkfs.xfs mkswap sfdisk pkg-config libseccomp
	$(CARGO) test --locked

sanity: ## Run csi-sanity against the real server: file systems, raw block, the controller on a socket of its own
	@tools/need cargo cc go linux root
	$(CARGO) build --quiet --locked --bin berth
	csi-sanity/run target/debug/berth

fuzz: ## Fuzz whatever reads what others wrote, some seconds each
	@tools/need cargo cc c++
	fuzz/run

machine: test-image ## Boot a virtual machine, cut its power and break its disks
	@tools/need cargo cc linux busybox mkfs.ext4 qemu dmsetup
	tests/machine/run

soak: ## Two minutes of load, kills and noise on 200 volumes, and an audit of what is left
	@tools/need cargo cc linux root mkfs.ext4
	tests/soak/run

manifests: ## Render the chart: deploy/berth.yaml
	tests/cluster/build helm
	tests/cluster/render > deploy/berth.yaml

cluster: image ## Boot a two-node Kubernetes on this machine, with the image on it, for trying things; tests/cluster/down ends it
	@tools/need go linux root
	tests/cluster/up target/image/berth.tar

# The image of a build that is not optimised, in a third of the time.
test-image:
	@tools/need cargo cc mkfs.ext4 mkfs.xfs
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --quiet --locked --bin berth --target x86_64-unknown-linux-gnu
	tools/berth-image $(TARGET)/x86_64-unknown-linux-gnu/debug/berth target/image/test.tar

cluster-test: test-image ## Run the scenarios on a real two-node Kubernetes
	@tools/need cargo cc go linux root
	BERTH_IMAGE=target/image/test.tar tests/cluster/run

e2e: test-image ## Run the part of Kubernetes' own external-storage suite that tells most in a few minutes
	@tools/need cargo cc go linux root
	BERTH_IMAGE=target/image/test.tar tests/cluster/e2e --bounded

conformance: image ## Run all of Kubernetes' own external-storage suite against Berth
	@tools/need cargo cc go linux root
	tests/cluster/e2e

prove: ## Every rule under fault and attack, in full (hours); make prove PARTS="model soak" for some
	@tools/need cargo cc c++ go linux root mkfs.ext4 mkfs.xfs mkswap sfdisk pkg-config libseccomp busybox ip nft conntrack openssl qemu dmsetup cargo-deny
	tests/prove $(PARTS)

bench: $(if $(filter cluster,$(PARTS)),$(if $(BERTH_CLUSTER_STATE),,image)) ## Measure calls, discovery, recycling, wipes, start and scale, beside the bare system calls; make bench PARTS=rpc for one part, PARTS=cluster for a real Kubernetes
	@tools/need cargo cc linux root mkfs.ext4 mkfs.xfs $(if $(filter cluster,$(PARTS)),go)
	$(CARGO) bench --quiet --locked --bench bench -- $(PARTS)

docs: ## Build the API documentation: target/doc/berth/index.html
	$(CARGO) doc --locked --no-deps --document-private-items
