# A fresh machine needs Python 3.11-3.13 and make; everything else is set up here, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: sweep test test-all check bench chaos cluster-test reference docs clean

sweep: $(VENV)/.installed ## run the default sweep, or what is missing of it
	@$(BIN)/python -m sweep.run $(ARGS)

test: check ## lint, types, import rules, and all tests that take seconds

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist worksteal # three on two cores: whole sweeps wait for Ray half of the time

test-all: $(VENV)/.installed-dev $(VENV)/.installed-docs ## every test; NOISY_PAIRS_DATA=DIR adds those on real photographs
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-bench ## speed against the bare step and against what a user would write; about 10 minutes on 2 cores
	@$(BIN)/python -m benchmarks.speed $(ARGS)

chaos: $(VENV)/.installed-dev ## disturb a small sweep 200 times and check that nothing is lost; half an hour on 2 cores
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

cluster-test: $(VENV)/.installed-dev ## a cluster of two nodes on this machine, one killed in mid-sweep; as root, on Linux
	@$(BIN)/python -m benchmarks.cluster $(ARGS)

.PHONY: slurm-test
slurm-test: $(VENV)/.installed-dev ## sweeps as jobs of a Slurm on this machine, preempted, ended and cancelled; half an hour on 2 cores
	@$(BIN)/python -m benchmarks.slurm $(ARGS)

reference: $(VENV)/.installed-bench ## the results of docs/results, or what is missing of them; a day on 2 cores. ARGS="--photographs DIR --cifar DIR"
	@$(BIN)/python -m benchmarks.reference $(ARGS)

docs: $(VENV)/.installed-docs ## the documentation as a site in build/site, which opens from disk
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet && echo "open build/site/index.html"

# Modules are compiled when first imported: compiling all that is installed takes more than a third of the set-up.
define install
@echo "installing the pinned packages into $(VENV) (some minutes, about 7 GB) ..."
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '$(1)'
@touch $(VENV)/.installed $@
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[dev])

$(VENV)/.installed-cluster: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[cluster])

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[docs])

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.[bench])

clean: ## remove the environment and caches, never results
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
