# Every chore of the project, each a line that can be run by hand. `make` alone lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help build demo test lint unit sanity docs

help: ## List the chores
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

build: ## Build the binary, optimised: target/release/berth
	@tools/need cargo cc
	$(CARGO) build --release --locked

demo: ## Show a volume's whole life on this machine, step by step; changes nothing outside a mount namespace of its own
	@tools/need cargo cc linux
	@echo "Building (the first time takes a minute or two) ..."
	@$(CARGO) build --quiet --locked --bin berth --example demo
	@target/debug/examples/demo

test: ## Run every test
	@tools/need cargo cc go linux root mkfs.ext4 mkfs.xfs mkswap sfdisk
	@$(MAKE) --no-print-directory lint unit sanity

lint: ## Formatting, clippy and rustdoc, with warnings as errors
	@tools/need cargo cc
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --quiet --locked --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; fi

unit: ## Unit and integration tests, with real mounts in private namespaces
	@tools/need cargo cc go linux root mkfs.ext4 mkfs.xfs mkswap sfdisk
	$(CARGO) test --locked

sanity: ## Run csi-sanity against the real server: file systems, raw block, the controller on a socket of its own
	@tools/need cargo cc go linux root
	$(CARGO) build --quiet --locked --bin berth
	csi-sanity/run target/debug/berth

docs: ## Build the API documentation: target/doc/berth/index.html
	$(CARGO) doc --locked --no-deps --document-private-items
