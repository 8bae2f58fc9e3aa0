# `make demo` and `make test` need nothing but Python 3.11+ with venv, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CROSS := .venv-crosscheck
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# two cores, two workers: one thread each, or they wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all test-anomalib check crosscheck bench bench-full format clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-demo
	$(BIN)/robustad demo --run-dir runs/demo --overwrite

test: $(VENV)/installed-dev
	$(PYTEST)

test-all: $(VENV)/installed-dev
	$(PYTEST) -m "not gpu"

# anomalib has an environment of its own: it is large, and wants another jsonargparse than constraints.txt names
test-anomalib: .venv-anomalib/installed
	OMP_NUM_THREADS=1 .venv-anomalib/bin/python -m pytest tests/adapters -o filterwarnings=default --disable-warnings

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# other people's attacks pin old packages: an environment of their own, and a missing library is an error, not a skip
crosscheck: $(CROSS)/installed
	$(CROSS)/bin/python -W ignore -c 'import art.attacks.evasion, foolbox, torchattacks'
	OMP_NUM_THREADS=1 $(CROSS)/bin/python -m pytest tests/crosscheck

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

# published sizes, hours; goes on where it was interrupted
bench-full: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks --full

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(CROSS) .venv-anomalib build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("robustad needs Python 3.11 or newer; run: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/installed-demo

$(CROSS)/installed: pyproject.toml constraints.txt tests/crosscheck/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(CROSS)
	$(CROSS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . pytest
	$(CROSS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/crosscheck/requirements.txt
	touch $@

.venv-anomalib/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m venv --clear .venv-anomalib
	grep -v '^jsonargparse==' constraints.txt > .venv-anomalib/constraints.txt
	.venv-anomalib/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint .venv-anomalib/constraints.txt --editable '.[anomalib,demo,onnx]' onnx onnxscript pytest
	touch $@
