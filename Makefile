# Every verb that a person or CI uses, in the order data flows. `make help` lists them.
#
# Options are variables, because make keeps flags for itself: `make status JSON=1`, `make logs S=ingest F=1`,
# `make replay ARGS="--frames FILE --speed 60 --once"`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SYSTEM_PYTHON ?= python3
PYTHON := .venv/bin/python
CANDLEWICK := .venv/bin/candlewick
NPM := npm --prefix frontend
export DO_NOT_TRACK = 1
export NEXT_TELEMETRY_DISABLED = 1
export BENTOML_DO_NOT_TRACK = True
export MLFLOW_DISABLE_TELEMETRY = true

# How many processes share the tests. More than two would start a third of everything that lives as long as a session.
# Each computes with one thread: a fit's threads would wait at every step for those that the other process keeps off.
TEST_PROCESSES ?= 2
# Says where the time of a whole run goes.
SLOWEST := --durations=25 --durations-min=5
# What runs side by side prints one after the other, where make can (macOS has 3.81).
WHOLE_OUTPUT = $(if $(filter output-sync,$(.FEATURES)),--output-sync=target,)
JSON_FLAG = $(if $(JSON),--json,)
LOCKED_GROUPS := ingest streaming store serving training monitoring dev run all

.PHONY: help doctor setup up down status logs topics symbols record replay bars backfill reconcile lake delta parity \
        features leakcheck quality train evaluate walkforward ablation drift bench \
        generate generate-check lock lint format typecheck test test-setup test-unit test-integration \
        test-frontend test-rules test-e2e test-strangers clean setup-all

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n%s\n", substr($$0, 4)} \
	     /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## The stack on this machine

doctor: ## Say what is missing, occupied or has drifted, and how to mend it (FIX=1 mends what is safe)
	@$(if $(wildcard $(PYTHON)),$(PYTHON),$(SYSTEM_PYTHON)) -m infra.stack.doctor $(if $(FIX),--fix,) $(JSON_FLAG)

setup: ## Install what the stack needs; quick when nothing changed
	@$(SYSTEM_PYTHON) infra/setup.py run

up: setup ## Start everything in order of readiness and print where it is (SOURCE=live|recording|simulated)
	@$(CANDLEWICK) up $(if $(SOURCE),--source $(SOURCE),) $(JSON_FLAG) $(ARGS)

status: ## Show each component: state, address, memory, log (JSON=1)
	@$(CANDLEWICK) status $(JSON_FLAG)

logs: ## Print the logs (S=component, F=1 follows)
	@$(CANDLEWICK) logs $(S) $(if $(F),--follow,) $(JSON_FLAG)

down: ## Stop everything; no process, lock or port is left, state is kept
	@$(if $(wildcard $(CANDLEWICK)),$(CANDLEWICK) down $(JSON_FLAG),echo "nothing was ever set up here")

clean: down ## Stop, then delete this machine's state: logs, topics, lake, checkpoints
	@rm -rf .run

## Data and features

topics: ## Create the Kafka topics that are missing
	@$(CANDLEWICK) topics $(JSON_FLAG)

bars: ## Make bars of recorded frames (ARGS="--frames FILE --interval 1m --output OUT.parquet")
	@$(CANDLEWICK) bars $(ARGS) $(JSON_FLAG)

record: ## Record the venue's frames (ARGS="--budget 20GB"); `candlewick recordings` shows them
	@$(CANDLEWICK) record $(ARGS) $(JSON_FLAG)

replay: ## Play frames (ARGS="--frames FILE --speed N --once"), or the past again (ARGS="--from TIME --to TIME")
	@$(CANDLEWICK) replay $(ARGS) $(JSON_FLAG)

lake: ## Show the lake's files; merge or remove without a stream (ARGS="compact", "retain --dry-run")
	@$(CANDLEWICK) lake $(if $(ARGS),$(ARGS),status) $(JSON_FLAG)

backfill: ## Bring the past into the lake (ARGS="--from TIME --to TIME --source raw", "--source context")
	@$(CANDLEWICK) backfill $(ARGS) $(JSON_FLAG)

reconcile: ## Compare the lake's bars with a witness, write revisions (ARGS="--from TIME --to TIME --dry-run")
	@$(CANDLEWICK) reconcile $(ARGS) $(JSON_FLAG)

symbols: ## Show, add or remove what is followed (ARGS="list --venue", "add SOLUSDT", "remove SOLUSDT")
	@$(CANDLEWICK) symbols $(if $(ARGS),$(ARGS),list) $(JSON_FLAG)

parity: ## Compare online rows, lake rows and a recomputation from raw
	@$(CANDLEWICK) parity $(ARGS) $(JSON_FLAG)

features: ## Show the features, or what changed and which models break (ARGS="diff main")
	@$(CANDLEWICK) features $(if $(ARGS),$(ARGS),list) $(JSON_FLAG)

leakcheck: setup-all ## Change what was not known yet: no feature or label may change (ARGS="--plant", "--bars FILE…")
	@$(CANDLEWICK) leakcheck $(ARGS) $(JSON_FLAG)

quality: ## Compare the lake's feature rows with what is expected of each feature (ARGS="--hours 24")
	@$(CANDLEWICK) quality $(ARGS) $(JSON_FLAG)

## Model

train: setup-all ## Train the models and baselines on recorded history
	@$(CANDLEWICK) train $(ARGS) $(JSON_FLAG)

evaluate: setup-all ## Score a model on bars (ARGS="--model NAME --bars FILE… --from TIME --baselines")
	@$(CANDLEWICK) evaluate $(ARGS) $(JSON_FLAG)

walkforward: setup-all ## Fit on all before a block of days, score the block, block by block; resumable (ARGS="--bars FILE…")
	@$(CANDLEWICK) walkforward $(ARGS) $(JSON_FLAG)

ablation: setup-all ## Fit a model without each feature family in turn: what is lost by it (ARGS="--model NAME --bars FILE…")
	@$(CANDLEWICK) ablation $(ARGS) $(JSON_FLAG)

drift: setup-all ## Write the drift report of live features against the model's reference
	@$(CANDLEWICK) drift --report $(ARGS)

bench: ## Measure the running stack: freshness and prediction latency
	@$(CANDLEWICK) bench freshness $(JSON_FLAG)
	@$(CANDLEWICK) bench predict $(JSON_FLAG)

## Code

generate: ## Renew everything derived: schemas, TypeScript
	@$(PYTHON) -m feature_repo.derive
	@$(NPM) run --silent generate

generate-check: ## Fail when a derived file differs from its source
	@$(PYTHON) -m feature_repo.derive --check
	@$(NPM) run --silent generate:check

format: ## Sort imports and apply the safe fixes
	@$(PYTHON) -m ruff check --fix .

typecheck: ## mypy --strict over the packages
	@$(PYTHON) -m mypy

lint: typecheck ## ruff, mypy and the direction of imports
	@$(PYTHON) -m ruff check .
	@.venv/bin/lint-imports --no-cache

lock: ## Renew requirements/*.lock: by hash, without a host
	@.venv/bin/uv lock
	@for group in $(LOCKED_GROUPS); do \
	  .venv/bin/uv export --quiet --locked --no-emit-project --no-header --group $$group -o requirements/$$group.lock >/dev/null; \
	done
	@.venv/bin/uv export --quiet --locked --no-emit-project --no-header --only-group setup -o requirements/setup.lock >/dev/null
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  requirements/strangers.in -o requirements/strangers.lock
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  -c requirements/all.lock requirements/delta.in -o requirements/delta.lock
	@! grep -lE 'https?://' requirements/*.lock

## Tests

test: test-setup ## Everything, in an empty clone too; ends with pytest's closing line
	@$(MAKE) -j $(TEST_PROCESSES) $(WHOLE_OUTPUT) generate-check lint test-rules test-frontend
	@$(MAKE) test-e2e
	@$(MAKE) test-python

setup-all:
	@$(SYSTEM_PYTHON) infra/setup.py all

delta: setup ## Install deltalake, with which `candlewick lake delta` writes a zone as a Delta table
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip >/dev/null
	@$(PYTHON) -m pip install --quiet --require-hashes -r requirements/delta.lock

test-setup: setup-all ## Install what tests need, browser, promtool and kcat included where that is possible
	@$(SYSTEM_PYTHON) infra/system.py
	@$(PYTHON) -m infra.strangers
	@$(MAKE) delta || echo "left out: deltalake is not to be had here, Delta tables are not tested"

test-python: ## Unit and integration tests: what may share the machine file by file in TEST_PROCESSES, then the rest
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	  -m "not e2e and not alone" $(SLOWEST) $(ARGS)
	@$(PYTHON) -m pytest -m alone tests/integration $(SLOWEST) $(ARGS)

test-unit: ## Fast tests: no server, no network
	@$(PYTHON) -m pytest -q -m "not integration and not e2e" $(ARGS)

test-integration: ## Tests on real Kafka, Spark, Redis and S3
	@$(PYTHON) -m pytest -m integration $(ARGS)

test-frontend: ## ESLint, strict TypeScript and Vitest
	@$(NPM) run --silent lint
	@$(NPM) run --silent typecheck
	@$(NPM) run --silent test

test-rules: ## Prove the alert rules with promtool
	@if command -v promtool >/dev/null; then promtool test rules monitoring/rules/*test*.yml; \
	 else echo "left out: promtool is not on this machine, the alert rules are not proven"; fi

test-e2e: ## A browser against a whole running stack with its own ports and run folder
	@if command -v chromium >/dev/null || [ -n "$${CHROMIUM_PATH:-}" ]; then \
	   $(PYTHON) -m infra.stack.trial -- $(NPM) run e2e; \
	 else echo "left out: chromium is not on this machine, the page is not looked at"; fi

test-strangers: ## Published clients at the local exchange for 5 minutes, their books beside ours (ARGS="--seconds N")
	@$(CANDLEWICK) bench strangers $(ARGS) $(JSON_FLAG)
