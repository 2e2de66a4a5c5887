# `make run` and `make test` need Python 3.11 or newer and make; nothing else, and no root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: run test check bench golden clean install

run: $(VENV)/.run ## Start every part, send sample knees to itself, say where the results are
	$(BIN)/genu demo

test: $(VENV)/.test ## Pass all tests; those whose real peer is not installed are skipped by name
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.test ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test ## Measure, side by side with what else is installed
	$(BIN)/python -m bench

golden: $(VENV)/.test ## Compare the answers on fixed inputs with their record: after a change that must not alter any
	$(BIN)/python -m bench.golden

install: $(VENV)/.run ## What `run` needs, without running

# The node and the CPU engine: no torch.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable '.[node,worker-cpu]'
	touch $@

# Also torch, training and the tools.
$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable '.[node,worker,dev]'
	touch $@ $(VENV)/.run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Genu needs Python 3.11 or newer; say which: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean: ## Remove what was installed and every cache; data/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
