# Every target sets up what it needs: .venv with everything pinned in constraints.txt.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
FOUND := $(foreach p,python3 python3.12 python3.11,\
	$(shell $(p) -c '$(SUITABLE)' 2>/dev/null && echo $(p)))
PYTHON ?= $(firstword $(FOUND) python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv sweep test test-full mutants check fix bench

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

venv: $(INSTALLED)  ## .venv with the project and everything it needs, pinned

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(SUITABLE)' || \
		{ echo "Python 3.11 or 3.12 is needed, $(PYTHON) is $$($(PYTHON) --version);" \
		"give one with PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

sweep: $(INSTALLED) data/synth/dataset.json  ## the quickstart: synthetic data, six trials, scores
	DATA=data $(BIN)/orchestrate sweep quickstart

data/synth/dataset.json: | $(INSTALLED)
	$(BIN)/orchestrate data synth data/synth

test: $(INSTALLED)  ## the tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not full"

test-full: $(INSTALLED)  ## the rest of the tests: more cases of the same laws
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m full

mutants: $(INSTALLED)  ## would the tests notice? changes of the core, one at a time
	$(BIN)/python -m tests.mutants

check: $(INSTALLED)  ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(INSTALLED)  ## put right what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## every claim of speed, measured on this machine
	$(BIN)/python benchmarks/data_path.py
	$(BIN)/python benchmarks/data_import.py
	$(BIN)/python benchmarks/ensembling.py
	$(BIN)/python benchmarks/simulator.py
