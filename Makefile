# make demo: a real job, end to end.  make test: every test.  make lab: JupyterLab on the quickstart.
# As root, Jupyter asks for: make lab FLAGS=--allow-root
# make labextension: what JupyterLab shows of CTS, by Node, which comes with it.
# make docs: the documentation, as pages to read in a browser.
# make services: the servers that a service for many stands on, for trying it out here.
PYTHON ?= python3
VENV ?= .venv
# Test runs side by side in make test, for two cpus. They mostly wait for servers, of which each run starts its own.
TEST_RUNS ?= 3
# A test that reached a limit of time is run once more, and named: decision 0100.
RERUNS := --reruns 1 --only-rerun '[Tt]ime(d )?[Oo]ut' --rerun-show-tracebacks -raR
# Hundreds of processes would compile the same modules again and again.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
UV := UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv
# What uv.lock names, and nothing newer. uv itself and what was added by hand stay.
SYNC := $(UV) sync --locked --inexact --quiet

# What the JupyterLab extension is built from, and where to. Node is the environment's own.
EXTENSION := cts_jupyter/labextension
EXTENSION_SOURCES := $(shell find labextension/src labextension/style labextension/schema -type f) cts_jupyter/states.json \
  $(addprefix labextension/,package.json yarn.lock rspack.config.js build_widget.mjs)
INSTALLED := labextension/node_modules
JLPM := cd labextension && PATH="$(abspath $(BIN)):$$PATH" jlpm

.PHONY: demo lab labextension test check lint lock docs services bench clean

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "CTS needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check --quiet install 'uv>=0.9,<1'

$(VENV)/.lab: pyproject.toml uv.lock | $(BIN)/uv
	@echo "Installing CTS and JupyterLab into $(VENV) ..."
	$(SYNC) --extra lab
	@touch $@

$(VENV)/.dev: pyproject.toml uv.lock | $(BIN)/uv
	@echo "Installing CTS and its test tools into $(VENV) ..."
	$(SYNC) --extra dev
	@touch $@ $(VENV)/.lab $(VENV)/.labextension

$(VENV)/.labextension: pyproject.toml uv.lock | $(BIN)/uv
	@echo "Installing Node and the builder of JupyterLab extensions into $(VENV) ..."
	$(SYNC) --extra lab --extra labextension
	@touch $@ $(VENV)/.lab

# Of the packages of Node, a build needs a third of those that lint and tests need.
$(INSTALLED)/.build: labextension/package.json labextension/yarn.lock | $(VENV)/.labextension
	@echo "Installing what the JupyterLab extension is built with ..."
	$(JLPM) $(if $(wildcard $(INSTALLED)/.dev),install --immutable,workspaces focus --production) >/dev/null
	@touch $@

$(INSTALLED)/.dev: labextension/package.json labextension/yarn.lock | $(VENV)/.labextension
	@echo "Installing what the JupyterLab extension is built and tested with ..."
	$(JLPM) install --immutable >/dev/null
	@touch $@ $(INSTALLED)/.build

$(EXTENSION)/package.json: $(EXTENSION_SOURCES) | $(INSTALLED)/.build
	$(JLPM) build
	@mkdir -p $(VENV)/share/jupyter/labextensions
	ln -sfn $(abspath $(EXTENSION)) $(VENV)/share/jupyter/labextensions/cts-jupyter
	@touch $@

labextension: $(EXTENSION)/package.json

demo: $(VENV)/.lab
	@$(BIN)/python -m cts_jupyter.demo

lab: labextension
	@# Of copies: running a notebook changes it.
	@$(BIN)/python -m cts_jupyter.examples.example my-notebooks
	$(BIN)/jupyter lab $(FLAGS) my-notebooks/quickstart.ipynb

lint: $(VENV)/.dev $(INSTALLED)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(JLPM) lint

check: lint labextension
	$(JLPM) test
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test: lint labextension
	$(JLPM) test
	$(BIN)/python -m pytest -n $(TEST_RUNS) --dist loadfile $(RERUNS)

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -n -E -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

lock: | $(BIN)/uv
	$(UV) lock --upgrade

services: $(VENV)/.dev
	@$(BIN)/python -m tests.services

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks --json benchmarks/results.json

clean:
	rm -rf $(VENV) $(EXTENSION) cts_jupyter/widgets $(INSTALLED) .cache dist docs/_build .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis test-results
