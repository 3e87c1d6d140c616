# Everything runs from a virtual environment in .venv, which is made on first use.
PYTHON ?= python3
# Where pip would download CUDA on a machine without a GPU: make TORCH_INDEX=<the address of an index with CPU builds>
TORCH_INDEX ?=

# Processes in which `make test` runs tests side by side.
TESTS_AT_ONCE ?= 2

# Scripts of the page's package.json.
NPM = $(BIN)/python services/gateway/web/build.py

BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.bench-installed
PEERS_INSTALLED := build/peers/.installed
GENERATED := .venv/.generated
PAGE := services/gateway/page/index.html
BROWSER := .venv/.browser
PROTOS := $(shell find protos -name '*.proto')
PAGE_SOURCES := $(shell find services/gateway/web -name node_modules -prune -o -name gen -prune -o -type f -print)
TAG = $(shell git describe --tags --abbrev=0 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: docs requirements help demo test test-slow bench check lint lint-page up page protos install clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(GENERATED) $(PAGE) ## Set everything up and run a real training to its end, with the minutes it cost (KEEP=1: go on)
	@$(BIN)/python -m deploy.local.demo $(if $(KEEP),--keep)

up: $(GENERATED) $(PAGE) ## Run the whole platform on this machine until Ctrl-C
	@$(BIN)/tether up

# The simulation by itself: it takes every core, and prints what it met. Both parts run, whatever comes of the first.
test: $(GENERATED) $(PAGE) $(BROWSER) ## Set up and run the tests
	@failed=0; set -x; \
	$(NPM) run test || failed=1; \
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --ignore tests/simulation || failed=1; \
	$(BIN)/python -m pytest tests/simulation || failed=1; \
	{ exit $$failed; } 2>/dev/null

test-slow: $(GENERATED) $(PAGE) $(BROWSER) ## The tests that take long
	$(BIN)/python -m pytest -m slow --timeout 3600

bench: $(GENERATED) $(PAGE) $(BROWSER) $(BENCH_INSTALLED) $(PEERS_INSTALLED) ## Measure, and write build/bench.json
	@GRPC_VERBOSITY=ERROR $(BIN)/python -m tests.bench

check: lint ## Format, lint, types, import directions, protos, the page's sources, unit tests
	$(NPM) run test
	$(BIN)/python -m pytest tests/unit

lint: $(GENERATED) lint-page ## What `check` does, without the unit tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint --config protos/buf.yaml
	@rm -rf build/protos
	$(BIN)/python protos/generate.py build/protos
	diff -rq -x '*.proto' -x __pycache__ -x __init__.py -x buf.yaml -x generate.py -x build_hook.py protos build/protos/protos
	$(if $(TAG),$(BIN)/buf breaking --config protos/buf.yaml --against '.git#tag=$(TAG)' --against-config protos/buf.yaml)

lint-page: $(GENERATED)
	@$(NPM) --install --strict
	$(NPM) run lint
	$(NPM) run types

page: $(GENERATED) ## Build the web page
	@$(NPM) --strict

protos: $(INSTALLED) ## Generate the Python code of the protos
	$(BIN)/python protos/generate.py
	@touch $(GENERATED)

docs: $(GENERATED) ## Write the reference pages of docs/ from the code
	$(BIN)/python docs/generate.py

requirements: $(GENERATED) ## Compute what each model architecture needs, and write it into the catalogue (MEASURE=1: on a GPU)
	$(BIN)/python -m runner_agent.trainer.requirements --write $(if $(MEASURE),--measure)

install: $(GENERATED) $(PAGE) ## Make the virtual environment in .venv, and the page

clean: ## Remove all that was made here, the virtual environment too
	rm -rf .venv build services/gateway/page services/gateway/web/node_modules services/gateway/web/src/gen .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find protos -name '*_pb2*.py*' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml deploy/constraints.txt
	@$(PYTHON) deploy/preflight.py
	@echo "Installing into .venv; the first time this takes a minute or two and 2.5 GB of disk."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-c deploy/constraints.txt -e ".[server,embedded,agent,analyst,dev]"
	@touch $@

# The peers that are measured beside; nothing else needs them.
$(BENCH_INSTALLED): $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c deploy/constraints.txt -e ".[bench]"
	@touch $@

# Peers whose packages do not fit ours. Where they cannot be had, the bench goes on without them and says so.
$(PEERS_INSTALLED): tests/bench/peers.txt
	@$(PYTHON) -m venv build/peers && build/peers/bin/python -m pip install -qq --disable-pip-version-check -r $< \
		&& touch $@ || echo "MLflow and Trackio cannot be installed here; the figures beside them are left out"

# An installation generates them too; this covers a proto that was changed after it.
$(GENERATED): $(INSTALLED) $(PROTOS) protos/generate.py
	@$(BIN)/python protos/generate.py
	@touch $@

# A failed build of the page warns and stops nothing; the next make tries again.
$(PAGE): $(GENERATED) $(PAGE_SOURCES)
	@$(NPM)

# The tests of the page need a browser. Where it cannot be installed they are skipped and say so.
$(BROWSER): $(INSTALLED)
	@$(BIN)/python tests/support/chromium.py && touch $@ || true
