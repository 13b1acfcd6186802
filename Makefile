# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test campaign check format lint types imports security sql docs reference lock
.PHONY: audit sbom clean dashboards

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## the project's own virtual environment, with everything locked
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Strongroom needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: setup ## real bets over HTTP, matched, settled and paid; ends with the proof
	$(BIN)/strongroom demo

test: setup ## all tests, on a real Postgres; those that need the machine for themselves come last
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not alone" --durations=30 --durations-min=8
	$(BIN)/python -m pytest -n0 -m alone --durations=0 --durations-min=8

campaign: setup ## every proof at full quantity, in parts; goes on where it was (ONLY=C1,C6 PARTS=2)
	$(BIN)/python -m strongroom.lab.campaign $(if $(ONLY),--only $(ONLY)) $(if $(PARTS),--parts $(PARTS)) $(if $(AGAIN),--again)

check: setup format lint types imports security sql docs ## all that CI checks beside the tests

format:
	$(BIN)/ruff format --check src tests

lint:
	$(BIN)/ruff check src tests

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

security:
	$(BIN)/bandit -q -c pyproject.toml -r src

sql: setup
	$(BIN)/python -m pytest -q -n0 tests/test_sql.py

docs: setup
	$(BIN)/python -m pytest -q -n0 tests/test_docs.py tests/test_architecture.py

reference: setup ## writes docs/reference anew from the code
	$(BIN)/python -m strongroom.doors.cli.reference docs/reference

dashboards: setup ## writes monitoring/dashboards anew from monitoring/dashboards.toml
	$(BIN)/python -m strongroom.doors.metrics.dashboards monitoring

lock: ## resolves the locked versions anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --group dev --output-file requirements.lock pyproject.toml

audit: setup ## asks for known weaknesses of all that is locked (OSV=all.zip: without the network)
ifdef OSV
	$(BIN)/python .ci/advisories.py requirements.lock $(OSV)
else
	$(BIN)/pip-audit --strict --progress-spinner off --require-hashes --disable-pip -r requirements.lock
endif

sbom: setup ## writes dist/sbom.json, the list of all parts (CycloneDX)
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.json requirements.lock

clean: ## removes what was built; data folders stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
