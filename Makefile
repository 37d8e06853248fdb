# make demo: a real job, end to end.  make test: every test.  make lab: JupyterLab on the quickstart.
# make services: the servers that a service for many stands on, for trying it out here.
PYTHON ?= python3
VENV ?= .venv
# How many test runs make test has side by side. They mostly wait for servers, of which each starts its own.
TEST_RUNS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo lab test check lint services bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "CTS needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	@echo "Installing CTS and JupyterLab into $(VENV) ..."
	$(PIP) install -e '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing CTS and its test tools into $(VENV) ..."
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.lab

demo: $(VENV)/.lab
	@$(BIN)/python -m cts_jupyter.demo

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks/quickstart.ipynb

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test: lint
	$(BIN)/python -m pytest -n $(TEST_RUNS) --dist loadfile

services: $(VENV)/.dev
	@$(BIN)/python -m tests.services

bench: $(VENV)/.dev
	$(PIP) install -e '.[bench]'
	@for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results
