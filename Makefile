PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install spectrum test bench slow docs lock audit clean

install: $(STAMP)

# Third-party files are checked against their hashes, the build backend among them. torch comes first and by itself, for
# among its builds pip is to choose as it always does: with hashes it would pass over a local one, without CUDA. What is
# left for the last step is this project (and the CUDA libraries that torch's metadata pins, where that build was taken).
$(STAMP): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv .venv
	$(PIP) download -q --no-deps -c constraints.txt -d .venv/torch torch
	$(BIN)/python .ci/dependencies.py verify .venv/torch/*
	$(PIP) install --no-deps .venv/torch/*
	rm -r .venv/torch
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[test,cluster]'
	touch $@

# make spectrum ARGS="--task perm --size paper"; what it writes to reports/ is ignored by git.
spectrum: install
	$(BIN)/python -m stability.spectrum $(ARGS)
	@echo "Open the report named above in a browser, for instance: python3 -m webbrowser -t FILE"

# Style, types, then doctests and tests, on two processes with one thread each; who is done first takes over from the other.
test: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations=25 --doctest-modules -m "not slow" stability tests

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

# The hashes of every file that may be installed, after a change of pyproject.toml or constraints.txt.
.audit:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip --disable-pip-version-check install pip-audit==2.10.1 uv==0.13.9
lock: .audit
	.audit/bin/python .ci/dependencies.py lock

# Known vulnerabilities of the versions locked, and security rules on the code; 3 when no advisory service answers.
audit: install .audit
	.audit/bin/python .ci/dependencies.py audit

clean:
	rm -rf .venv .audit build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
