# Everything a person types here works on a fresh checkout: the environment is made when it's needed.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 3

.PHONY: help demo test test-oldest test-exhaustive check format docs bench bench-quick soak fuzz clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# Made anew whenever what has to be installed changes.
$(VENV)/.demo: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[testing]'
	touch $@

$(VENV)/.dev: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# On top of the former, and apart from it: atheris is not there for every Python and every system.
$(VENV)/.fuzzing: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzzing]'
	touch $@

demo: $(VENV)/.demo  ## run the quickstart against a server of its own
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.dev  ## run the whole test-suite; ARGS="-k name" for a part of it
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-oldest:  ## run it with the oldest releases that setup.cfg allows; PYTHON=python3.9
	$(PYTHON) -m venv --clear build/oldest
	scripts/oldest-requirements > build/oldest/constraints.txt
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint build/oldest/constraints.txt --editable '.[tests]'
	build/oldest/bin/python -m pytest -n $(JOBS) $(ARGS)

test-exhaustive: $(VENV)/.dev  ## what the suite tries only samples of, all of it: five minutes
	PIE_SYNC_EXHAUSTIVE=1 $(BIN)/python -m pytest -n $(JOBS) tests/faults tests/hostile $(ARGS)

check: $(VENV)/.dev  ## check style, types and the oldest Python version
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --eval-annotations --target=3.9- --violations pie_sync

format: $(VENV)/.dev  ## put the source into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## build the documentation into build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs

bench: $(VENV)/.dev  ## measure against the official client, write docs/performance.md
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev  ## the same in under a minute, writing nothing
	$(BIN)/python -m benchmarks --quick

soak: $(VENV)/.dev  ## ten minutes of load, cuts, restarts and slow consumers; ends with a table
	MALLOC_ARENA_MAX=1 $(BIN)/python -m benchmarks.soak  # glibc keeps what is freed, for each thread apart

fuzz: $(VENV)/.fuzzing  ## ten minutes of whatever a server can send; ARGS="--seconds 60 frames" for less
	$(BIN)/python -m fuzzing $(ARGS)

clean:  ## remove what the commands above made
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
