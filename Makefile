PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install spectrum test bench slow docs clean

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

# Side by side with other tools; --no-deps, for one of them would bring another torch.
PEERS := pyhessian curvlinops-for-pytorch hessian-eigenthings einops einconv linear-operator jaxtyping wadler-lindig
bench: install
	$(PIP) install --no-deps -c constraints.txt $(PEERS)
	$(BIN)/python -m analyses.bench $(ARGS)

# Checks that take longer than `make test` may.
slow: install
	$(BIN)/python -m pytest -m slow tests

# The documentation as a site that opens offline; a warning is an error.
docs: install
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
