# Every target does its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
BIN := .venv/bin
# Keeps the folder operator/ from shadowing the standard library's module.
export PYTHONSAFEPATH := 1

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: python clients packages test-packages
python: ## Create .venv, as the other targets do first
	@.ci/python
clients: python
	@.ci/others clients
packages:
	@.ci/packages
test-packages:
	@.ci/packages tests

.PHONY: up down
up: packages python ## Start a local Kubernetes with Aether on this machine (root)
	@$(BIN)/aether up
	@echo '  export PATH="$(CURDIR)/$(BIN):$$PATH"    # the command aether, and kubectl aether'
down: python ## Stop it; volumes and caches stay
	@$(BIN)/aether down

.PHONY: test test-fast coverage campaign
# In the order of the folders: the slowest tests come first, the many fast unit tests last.
TOGETHER := --numprocesses=4 --dist=loadscope --no-loadscope-reorder
test: test-packages lint types clients ## All checks and tests: lint, types, import contracts, every test level (root)
	@$(BIN)/aether build
	@.ci/in-memory $(BIN)/pytest $(TOGETHER)
test-fast: python lint types ## The checks and tests that need neither root nor a cluster
	@$(BIN)/pytest tests/unit tests/contract -m "not clients"
coverage: test-packages clients ## All tests, with the lines and branches that they do not cover
	@$(BIN)/aether build
	@.ci/in-memory $(BIN)/pytest $(TOGETHER) --cov --cov-report=term-missing:skip-covered
campaign: test-packages clients ## The fault-injection campaigns in full: make campaign NAME=up-kill
	@$(BIN)/aether build
	@$(BIN)/pytest tests/campaign --full -rP $(if $(NAME),-k $(subst -,_,$(NAME)))

.PHONY: bench
bench: test-packages python ## One benchmark, JSON lines on standard output: make bench B=control-plane-start
	@case "$(B)" in ingest-*) .ci/others peers ;; *) $(BIN)/aether build ;; esac
	@PYTHONPATH=tests $(BIN)/python -m aether_testing.bench.benchmarks $(B)

.PHONY: lint types format
lint: python ## Style, formatting, one import direction, plain words
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@PYTHONPATH=tests $(BIN)/lint-imports --no-logo
	@PYTHONPATH=tests $(BIN)/python -m aether_testing.words
types: python ## Strict types
	@$(BIN)/mypy
format: python ## Fix style and formatting
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format --quiet

.PHONY: crds docs lock changelog go-sums
crds: python ## Generate crds/ and their copy in the chart from the models
	@PYTHONPATH=tests $(BIN)/python -m aether_testing.generator
docs: crds ## Generate the reference pages and the README's picture, and show the next changelog
	@$(BIN)/python -m typer aether_cli.app utils docs --name aether --title "The aether command" --output docs/reference/cli.md
	@$(BIN)/towncrier build --draft --version next
go-sums: ## Update go.sum of the Go modules after a change of their versions
	@for module in operator/aether_cli/local/gomodules/*/; do (cd $$module && go list -mod=mod -deps tool >/dev/null); done
lock: python ## Resolve the newest dependencies into the lock files
	@$(BIN)/uv pip compile pyproject.toml --group dev --upgrade $(LOCK) --output-file requirements.lock
	@$(BIN)/uv pip compile images/operator/requirements.in --constraint requirements.lock --upgrade $(LOCK) \
		--output-file images/operator/requirements.lock
	@$(BIN)/uv pip compile images/service/requirements.in --constraint requirements.lock --upgrade $(LOCK) \
		--output-file images/service/requirements.lock
	@$(BIN)/uv pip compile --group pyproject.toml:go --upgrade $(LOCK) --output-file requirements-go.lock
	@$(BIN)/uv pip compile --group pyproject.toml:clients --upgrade $(LOCK) --output-file requirements-clients.lock
	@$(BIN)/uv pip compile --group pyproject.toml:peers --upgrade $(LOCK) --output-file requirements-peers.lock
changelog: python ## Move docs/changes into CHANGELOG.md: make changelog VERSION=0.1.0
	@$(BIN)/towncrier build --yes --version $(VERSION)
LOCK := --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"
