# The commands of this repository, for a machine with cargo, make and a shell; `make` lists them.
#
# What is missing is installed with apt-get (through sudo for those who are not root) and told first; where nothing is
# missing, neither the network nor sudo is asked for anything.
#
# The demo is built like the tests, not with --release: measured on 2 cores from nothing, with other builds beside it, the
# dev profile took 3 minutes and the release profile (optimised, thin LTO) 8. The demo waits for a browser, not for us, and
# what it builds the tests use again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.SILENT:
# Cargo uses every core by itself; targets at once would only wait for one another's build lock.
.NOTPARALLEL:
.PHONY: help demo test chaos check format lints documentation dependencies clean

# More words for the command: `make demo ARGS=--keep`, `make test ARGS='--test house'`.
ARGS ?=
# How long `make chaos` lasts.
MINUTES ?= 10

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
