# The commands of this repository, for a machine with cargo, make and a shell; `make` lists them.
#
# What is missing is installed with apt-get (through sudo for those who are not root) and told first; where nothing is
# missing, neither the network nor sudo is asked for anything.
#
# The demo is built like the tests, not with --release: measured on 2 cores from nothing, with other builds beside it, the
# dev profile took 3 minutes and the release profile (optimised as a whole) 7. The demo waits for a browser, not for us, and
# what it builds the tests use again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.SILENT:
# Cargo uses every core by itself; targets at once would only wait for one another's build lock.
.NOTPARALLEL:
.PHONY: help demo test torture interleavings fuzz chaos check format lints documentation dependencies clean

# More words for the command: `make demo ARGS=--keep`, `make test ARGS='--test house'`.
ARGS ?=
# How long `make chaos` lasts, and each target of `make fuzz`.
MINUTES ?= 10
# What `make fuzz` fuzzes.
TARGETS ?= record snapshot config

help: ## lists the commands
	sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: ## builds everything and plays a day at a portal on this terminal
	.ci/install demo
	echo "== building (on 2 cores about 3 minutes the first time)"
	cargo build --locked
	echo "== playing the day"
	cargo run --locked --quiet -- demo $(ARGS)

test: ## runs every test, those with a real Chromium and a real systemd included
	.ci/install test
	.ci/test $(ARGS)

torture: ## the long forms of the proofs of store and flows: kill -9, power cuts, flipped bits, full disks, …
	.ci/install test
	echo "== kills, power cuts, flipped bits, full disks, the model, linearizability"
	cargo test --locked --no-fail-fast --test store_durability --test store_damage --test store_space \
	  --test store_model --test linearizability --test flows -- \
	  --ignored --nocapture --test-threads=1 long_
	echo "== interleavings"
	cargo test --locked --lib --features interleavings interleavings:: -- --ignored --nocapture --test-threads=1

interleavings: ## explores who goes on when in the store's update, sweeper and commit, with shuttle (part of make test)
	cargo test --locked --lib --features interleavings interleavings::

fuzz: ## ten minutes of libFuzzer for each target (MINUTES=1 TARGETS=config for less), on stable Rust
	.ci/install fuzz
	echo "== building the targets"
	export RUSTC_WORKSPACE_WRAPPER=$$PWD/.ci/instrument
	cargo build --locked --package nightporter-fuzz
	for target in $(TARGETS); do
	  echo "== $$target, for $(MINUTES) minutes; what it finds worth keeping goes to target/fuzz/$$target"
	  mkdir -p target/fuzz/$$target
	  cargo run --locked --quiet --package nightporter-fuzz --bin $$target -- target/fuzz/$$target fuzz/corpus/$$target \
	    -max_total_time=$$(($(MINUTES) * 60)) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
	    -artifact_prefix=target/fuzz/$$target- -verbosity=1
	done

chaos: ## ten minutes of random faults under a running batch job, and a report (MINUTES=1 SEED=7 for another storm)
	.ci/install test
	NIGHTPORTER_CHAOS_MINUTES=$(MINUTES) $(if $(SEED),NIGHTPORTER_CHAOS_SEED=$(SEED)) cargo test --locked --test portals -- \
	  --ignored --nocapture --exact chaos::ten_minutes_of_storm_leave_nothing_behind

check: format lints documentation dependencies ## everything but the tests

format: ## is it formatted?
	echo "== format"
	cargo fmt --check

lints: ## does clippy find something?
	echo "== lints"
	cargo clippy --locked --all-targets -- -D warnings

documentation: ## is the documentation whole?
	echo "== documentation"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

dependencies: ## licences, advisories and sources, if cargo-deny is installed
	if command -v cargo-deny >/dev/null; then
	  echo "== dependencies"
	  cargo deny check
	else
	  echo "== dependencies: not checked, cargo-deny is not installed"
	fi

clean: ## removes what was built
	cargo clean
