# All commands work in a fresh checkout: make creates the environment when a command needs it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 3

.PHONY: help demo demo-engine test test-coverage test-oldest test-exhaustive check format dist docs bench bench-quick soak fuzz clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# Created again whenever the requirements change.
$(VENV)/.demo: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[testing]'
	touch $@

$(VENV)/.dev: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# Installed on top of the environment above, because atheris does not exist for every Python and every system.
$(VENV)/.fuzzing: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzzing]'
	touch $@

$(VENV)/.demo-engine: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[engine]'
	touch $@

demo: $(VENV)/.demo  ## run the quickstart against a server of its own
	$(BIN)/python examples/quickstart.py

demo-engine: $(VENV)/.demo-engine  ## generate text on the real engine, with a tiny model on the CPU
	if [ "$$(id -u)" -eq 0 ] && [ "$$(uname)" = Linux ]; then scripts/install-real-server; fi
	$(BIN)/python examples/generate_text.py

# Generates text on the CPU. The engine gives up an instance that does not get the processor for a while, so nothing
# else runs meanwhile.
ALONE := tests/real_server/test_example.py

test: $(VENV)/.dev  ## run all tests; ARGS="-k name" for a part of them
	$(BIN)/python -m pytest -n $(JOBS) --ignore=$(ALONE) $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m pytest $(ALONE))

# Tests that tracing would slow down or disturb: they go through gigabytes, or trace by themselves. They reach nothing
# that others don't reach.
UNTRACED := tests/faults/test_slow_consumer.py tests/faults/test_interrupt_anywhere.py tests/real_server

test-coverage: $(VENV)/.dev  ## run all tests and measure lines and branches; fails below the figures in CONTRIBUTING.md
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest -n $(JOBS) $(addprefix --ignore=,$(UNTRACED)) $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python scripts/check-coverage

test-oldest:  ## run all tests with the oldest releases that setup.cfg allows; PYTHON=python3.9
	$(PYTHON) -m venv --clear build/oldest
	scripts/oldest-requirements > build/oldest/constraints.txt
	build/oldest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint build/oldest/constraints.txt --editable '.[tests]'
	build/oldest/bin/python -m pytest -n $(JOBS) $(ARGS)

test-exhaustive: $(VENV)/.dev  ## try every case where the tests take samples: five minutes
	PIE_SYNC_EXHAUSTIVE=1 $(BIN)/python -m pytest -n $(JOBS) tests/faults tests/hostile $(ARGS)

check: $(VENV)/.dev  ## check style, types on three systems, and the oldest Python version
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/format-pages --check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32
	$(BIN)/mypy --platform darwin
	$(BIN)/vermin --quiet --no-tips --eval-annotations --target=3.9- --violations pie_sync

format: $(VENV)/.dev  ## reformat the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/format-pages

dist:  ## build sdist and wheel into dist, check them, install and try each in a clean environment
	PYTHON=$(PYTHON) scripts/build-distributions

docs: $(VENV)/.dev  ## build the documentation into build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/docs

bench: $(VENV)/.dev  ## compare with the official client, write docs/performance.md
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev  ## the same in under a minute, writing nothing
	$(BIN)/python -m benchmarks --quick

soak: $(VENV)/.dev  ## ten minutes of load, cuts, restarts and slow consumers; ends with a table
	$(BIN)/python -m benchmarks.soak

fuzz: $(VENV)/.fuzzing  ## fuzz for ten minutes what a server can send; ARGS="--seconds 60 frames" for less
	$(BIN)/python -m fuzzing $(ARGS)

clean:  ## remove everything that the commands above created
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
