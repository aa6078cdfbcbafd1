# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-slow check clean

run: .venv/installed  ## install, then run a study and report what it found (7 to 12 minutes on 2 cores)
	$(BIN)/asi-arch run --study studies/first

test: .venv/installed-dev  ## install, then the tests that a change must pass
	$(BIN)/python -W error -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not slow and not gpu"

test-slow: .venv/installed-dev  ## the tests that take minutes each
	$(BIN)/python -W error -m pytest -m "slow and not gpu"

check: .venv/installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable .[dev]
	touch $@
