PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install spectrum test bench clean

install: $(STAMP)

# The build backend is installed first, so that it is the pinned one too.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt setuptools
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[test]'
	touch $@

# make spectrum ARGS="--task perm --size paper"
spectrum: install
	$(BIN)/python -m stability.spectrum $(ARGS)

# Style, then doctests and tests in one run.
test: install
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --doctest-modules -m "not slow" stability tests

# Longer checks and, where there is one, the benchmark.
bench: install
	$(BIN)/python -m pytest -m slow tests
	$(if $(wildcard analyses/bench.py),$(BIN)/python -m analyses.bench $(ARGS))

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
